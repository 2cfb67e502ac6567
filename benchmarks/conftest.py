"""What every result file of `make bench` holds: the machine in full, and no raw times."""

from ensemble.pipeline.bench.timing import machine


def pytest_benchmark_update_machine_info(machine_info):
    """Add the processor, the load at the start, and the versions of the libraries."""
    machine_info["ens"] = machine()


def pytest_benchmark_update_json(output_json):
    """Leave out each round's time: quartiles stay, and a file is small enough to be committed."""
    for benchmark in output_json["benchmarks"]:
        benchmark["stats"].pop("data", None)
