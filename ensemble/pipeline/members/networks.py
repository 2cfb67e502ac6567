"""Register networks that were trained elsewhere: copy, examine, and keep how they are read."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ensemble.pipeline.data.prepare import run_classes
from ensemble.pipeline.run.experiment import Experiment
from ensemble.pipeline.run.open_run import imported_members
from evaluation.core.errors import BadData, BadRun
from evaluation.core.files import atomic_folder, read_json, write_json
from evaluation.core.progress import Log
from evaluation.core.provenance import (
    CONFIG,
    RECORD,
    cached_digest,
    digests,
    is_intact,
    record,
)
from evaluation.core.run_folder import OOF, Run
from members.data.cleaning.id_lists import find_ids, read_ids
from members.data.dataset import DataSet
from members.external_networks.description import NetworkDescription
from members.external_networks.examine import Examined, examine
from members.external_networks.network import READING
from members.external_networks.runtimes import external_files, format_of
from members.recipe import Member

FILE, IDS = "file", "trained_on"
"""Inputs of a registered network's record; weights beside the file are called as they lie there."""


def register_networks(
    run: Run, experiment: Experiment, log: Log, *, only: Sequence[str] = ()
) -> list[Member]:
    """Copy the experiment's networks into the run, and find out how they are read.

    What is registered already, of the same file and description, is kept; so is a network whose
    file was moved away. All are examined before any is written.

    Args:
        run: the experiment folder, which holds its images.
        experiment: names the networks.
        log: receives what was read and inferred.
        only: names to which the work is restricted; by default all.

    Returns:
        The members.

    Raises:
        BadNetwork: a network that cannot be used, or whose description leaves readings open.
        BadSpec: a description that does not fit; a name that is taken.
    """
    members = [m for m in experiment.external_members() if not only or m.name in only]
    taken = {name for m in experiment.expanded(run_classes(run)) for name in (m.name, m.family)}
    taken |= set(imported_members(run)) | set(run.fusions())
    examined: list[tuple[Member, Examined]] = []
    for member in members:
        if member.name in taken:
            raise BadRun(
                f"network {member.name!r} has the name of a member or fusion of {run.path}; choose"
                " another"
            )
        if not is_registered(run, member):
            examined.append((member, examine_network(run, member)))
    for member, found in examined:
        _write(run, member, found)
        for note in found.notes:
            log(f"{member.name}: {note}")
    return members


def examine_network(run: Run, member: Member) -> Examined:
    """Find out how a network is read, on images of the run.

    Raises:
        BadNetwork: see `members.external_networks.examine.examine`.
        BadSpec: the same.
        BadData: it declares to be trained on images that the run lacks.
    """
    description = external_description(member)
    data = DataSet.load(run.data(OOF))
    return examine(member.name, description, data, trained_on=declared_ids(run, description))


def is_registered(run: Run, member: Member) -> bool:
    """Tell whether a run holds a network whole, as it is described, from today's files.

    Files that were moved away or deleted do not count as changed.
    """
    folder, description = run.network(member.name), external_description(member)
    if not is_intact(folder):
        return False
    document = read_json(folder / RECORD)
    today = {name: _input_path(description, name) for name in document["inputs"]}
    return bool(document[CONFIG] == _config(description)) and all(
        not path.is_file() or cached_digest(path) == document["inputs"][name]
        for name, path in today.items()
    )


def external_description(member: Member) -> NetworkDescription:
    """Return what is said about a network from elsewhere."""
    assert member.network is not None
    return member.network


def _config(description: NetworkDescription) -> dict[str, Any]:
    """Return what decides how a network is registered, as JSON values."""
    return {"network": description.model_dump(mode="json")}


def _input_path(description: NetworkDescription, name: str) -> Path:
    """Return a file that a network was registered from: its own, its ids, or weights beside it."""
    if name == FILE:
        return description.path
    return Path(str(description.trained_on)) if name == IDS else description.path.parent / name


def declared_ids(run: Run, description: NetworkDescription) -> tuple[str, ...] | None:
    """Return the ids of the images that a network declares to be trained on, as the run has them.

    Raises:
        BadData: ids that the run lacks.
    """
    said = description.trained_on
    if said is None:
        return None
    known = [name for split in run.splits() for name in DataSet.load(run.data(split)).ids]
    if isinstance(said, str):
        return tuple(sorted(read_ids(Path(said), known, of="the run's images")))
    found = find_ids(said, known)
    for name, ids in zip(said, found, strict=True):
        if len(ids) != 1:
            raise BadData(
                f"trained_on names {name!r}, which {len(ids)} of the run's images are; expected ids"
                f" such as {known[0]!r}"
            )
    return tuple(sorted(name for (name,) in found))


def _write(run: Run, member: Member, found: Examined) -> None:
    description, reading = external_description(member), found.network.reading
    beside = external_files(description.path) if format_of(description.path) == "onnx" else []
    names = [FILE, *map(str, beside)]
    names += [IDS] if isinstance(description.trained_on, str) else []
    inputs = {name: cached_digest(_input_path(description, name)) for name in names}
    with atomic_folder(run.network(member.name)) as partial:
        shutil.copyfile(description.path, partial / reading.file)
        for file in beside:
            (partial / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(description.path.parent / file, partial / file)
        write_json(partial / READING, reading.model_dump(mode="json"))
        outputs = digests(partial, [READING, reading.file, *map(str, beside)])
        record(partial, config=_config(description), inputs=inputs, outputs=outputs)
