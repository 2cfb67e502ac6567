"""What every result file of `make bench` holds: the machine in full, and no raw times."""

from ensemble.pipeline.bench.timing import machine


def pytest_benchmark_update_machine_info(machine_info):
    """Add the processor, the load when it began, and the versions of what does the work."""
    machine_info["ens"] = machine()


def pytest_benchmark_update_json(output_json):
    """Leave out each round's time: quartiles stay, and a file is small enough to be committed."""
    for measured in output_json["benchmarks"]:
        measured["stats"].pop("data", None)
