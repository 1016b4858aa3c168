"""Finds and validates the data of a protocol; renders missing synthetic data."""

from __future__ import annotations

import fcntl
import logging
from pathlib import Path

from csl_tracker.datasets.registry import DATASETS, FileSequence, open_dataset, select_landmarks, sequence_names
from csl_tracker.errors import ConfigError, DatasetError, WeightsError
from csl_tracker.evaluation.protocol_models import Synthesis
from csl_tracker.evaluation.protocols import Protocol
from csl_tracker.instruments import InstrumentSet

logger = logging.getLogger(__name__)

LAYOUT = (
    "a correct layout is ROOT/Dataset1/ with Video.avi, Segmentation.avi, Pose.txt and the *_labels.json of the joints in it"
    " (Left_Instrument_* and Right_Instrument_* with two instruments), or the folders of the challenge's zip files below ROOT:"
    " Segmentation_Robotic_Training, Tracking_Robotic_Training, and Segmentation and Tracking of the test data"
)
"""Layout of EndoVis 2015 and of synthetic sequences."""


def _layout(dataset: str) -> str:
    """Expected layout of a dataset, for messages."""
    return LAYOUT if dataset in ("endovis2015", "synthetic") else f"the layout of {dataset} stands in docs/datasets.md"


def match_names(protocol: Protocol, root: Path) -> Protocol:
    """Rename sequences to ``training/Dataset1`` if the root also has a test sequence of that name, like the loader."""
    if protocol.dataset != "endovis2015" or not root.is_dir():
        return protocol
    found = sequence_names(protocol.dataset, root)
    names = {name: f"training/{name}" for name in protocol.sequences if name not in found}
    return protocol.renamed({name: other for name, other in names.items() if other in found})


def prepare_data(protocol: Protocol, root: Path | None, instruments: InstrumentSet) -> dict[str, FileSequence]:
    """Open all sequences of a protocol; renders missing synthetic ones.

    Args:
        protocol: The splits.
        root: Folder of the dataset.
        instruments: The landmarks and classes that all sequences must have.

    Returns:
        The test sequences by name.

    Raises:
        DatasetError: Data is missing or broken, or the dataset has no loader.
        ConfigError: A sequence lacks a landmark or a class of the instruments.
    """
    if protocol.dataset not in DATASETS:
        raise DatasetError(
            f"The protocol {protocol.name} needs the dataset {protocol.dataset!r}, for which there is no loader; there are"
            f" loaders for {', '.join(sorted(DATASETS))}: bring it into one of their layouts, and copy the protocol's file with"
            " that dataset's name."
        )
    wanted = ", ".join(protocol.sequences)
    protocol = protocol.with_groups(root)
    if root is None:
        raise DatasetError(
            f"The protocol {protocol.name} needs the sequences {wanted} of {protocol.dataset}; give the folder that holds them"
            f" as --root: {_layout(protocol.dataset)}."
        )
    if protocol.synthesis is not None:
        synthesise(protocol.synthesis, root)
    if not root.is_dir():
        raise DatasetError(
            f"There is no folder {root}, in which the sequences {wanted} were looked for; {_layout(protocol.dataset)}."
        )
    found = sequence_names(protocol.dataset, root)
    missing = [name for name in protocol.sequences if name not in found]
    if missing:
        present = [name for name in protocol.sequences if name in found]
        remedy = ""
        if protocol.rotates and len(present) > 1:
            remedy = f"; --sequences {' '.join(present)} restricts the protocol to those that are there"
        raise DatasetError(
            f"The protocol {protocol.name} looked for the sequences {wanted} below {root} and found no {', '.join(missing)},"
            f" only {', '.join(found)}; {_layout(protocol.dataset)}{remedy}."
        )
    unused = [name for name in found if name not in protocol.sequences]
    if unused and protocol.groups_file:
        logger.warning("The protocol %s leaves out %s, which %s has, too.", protocol.name, ", ".join(unused), root)
    sequences = {sequence.name: sequence for sequence in open_dataset(protocol.dataset, root, protocol.sequences)}
    for sequence in sequences.values():
        try:
            select_landmarks(sequence, instruments)
        except WeightsError as error:
            raise ConfigError(
                f"The experiment needs the landmarks {', '.join(instruments.landmarks)} and the classes"
                f" {', '.join(instruments.classes)}; the sequence {sequence.name} in {root} has the landmarks"
                f" {', '.join(sequence.landmarks)} and the classes {', '.join(sequence.classes)}: rename them in the data."
            ) from error
    tested = {name for fold in protocol.folds for part in fold.test for name in part.sequences}
    return {name: sequence for name, sequence in sequences.items() if name in tested}


def synthesise(synthesis: Synthesis, root: Path) -> None:
    """Render the missing sequences, protected by a file lock.

    Raises:
        DatasetError: The folder is not writable, or an existing sequence differs from the protocol.
    """
    from tqdm import tqdm

    from csl_tracker.datasets.synthetic import SyntheticSequence
    from csl_tracker.datasets.synthetic.layout import write_endovis2015

    wanted = [
        (name, group.frames, group.seed + index) for group in synthesis.groups for index, name in enumerate(group.sequences)
    ]
    if any(not (root / name).is_dir() for name, _, _ in wanted):
        try:
            root.mkdir(parents=True, exist_ok=True)
            with (root / ".synthesis.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                todo = [item for item in wanted if not (root / item[0]).is_dir()]
                total = sum(frames for _, frames, _ in todo)
                with tqdm(total=total, desc="rendering", unit="frame", disable=None) as bar:
                    for name, frames, seed in todo:
                        made = SyntheticSequence(seed, frames, synthesis.size, synthesis.fps, name=name)
                        write_endovis2015(made, root, bar.update)
        except OSError as error:
            raise DatasetError(
                f"The synthetic sequences cannot be written below {root} ({error.strerror}); give another --root."
            ) from error
    for sequence in open_dataset("synthetic", root, [name for name, _, _ in wanted]):
        frames = next(frames for name, frames, _ in wanted if name == sequence.name)
        if len(sequence) != frames or sequence.size != synthesis.size:
            raise DatasetError(
                f"{root / sequence.name} has {len(sequence)} frames of {sequence.size[0]}x{sequence.size[1]} px, and the"
                f" protocol asks for {frames} of {synthesis.size[0]}x{synthesis.size[1]}; remove the folder, or give another"
                " --root."
            )
