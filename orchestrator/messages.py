"""What a worker tells the driver, as JSON texts: they name their attempt, so that a late one is known as such."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.execution import Job, Outcome

Epochs = Sequence[tuple[int, dict[str, float]]]


@dataclass(frozen=True)
class Message:
    """Epochs that were done, and how the attempt ended if it did."""

    trial_id: str
    attempt: int
    epochs: Epochs
    outcome: Outcome | None


def encode_epoch(job: Job, epoch: int, metrics: dict[str, float]) -> str:
    """An epoch is done."""
    return _encode(job, [(epoch, metrics)], None)


def encode_outcome(job: Job, outcome: Outcome, epochs: Epochs = ()) -> str:
    """The attempt ended; `epochs` are those that may not have arrived."""
    return _encode(job, epochs, outcome)


def _encode(job: Job, epochs: Epochs, outcome: Outcome | None) -> str:
    ended = dataclasses.asdict(outcome) if outcome is not None else None
    return json.dumps({"trial_id": job.trial_id, "attempt": job.attempt, "epochs": list(epochs), "outcome": ended})


def decode(text: str) -> Message:
    """The inverse."""
    content = json.loads(text)
    ended = content["outcome"]
    epochs = [(epoch, metrics) for epoch, metrics in content["epochs"]]
    return Message(content["trial_id"], content["attempt"], epochs, Outcome(**ended) if ended else None)
