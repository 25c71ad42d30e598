"""What the store knows of the batches of one provider: intents, open attempts, and what became of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dataset_builder.captioning.batch_files import BatchFile, read_batch_file, requests_of
from dataset_builder.captioning.requests import Answer, CaptionRequest, Fault
from dataset_builder.captioning.store import AnswerStore, BatchRecord, Reservation

ENDED = frozenset(("completed", "failed", "expired", "cancelled", "abandoned"))  # statuses with nothing left to read
ABANDONED = "abandoned"


@dataclass(frozen=True)
class Intent:
    """A batch file about to be handed in. `file_id` is empty until it is uploaded: no batch can exist before that."""

    sha256: str
    path: Path
    file_id: str = ""


def has_unfinished(store: AnswerStore, provider: str) -> bool:
    """Whether an earlier process left a batch whose answers are not all in the store, or one that nobody heard of."""
    ledger = BatchLedger(store, provider, lambda request: Reservation(), lambda result: None)
    return bool(ledger.intents() or ledger.unfinished())


class BatchLedger:
    """The batches of `provider` in a store. `price` says what a result did cost."""

    def __init__(
        self,
        store: AnswerStore,
        provider: str,
        reservation: Callable[[CaptionRequest], Reservation],
        price: Callable[[Answer | Fault], int | None],
    ) -> None:
        self._store = store
        self._provider = provider
        self._reservation = reservation
        self._price = price
        self._setting = f"batch-intents:{provider}"

    def intents(self) -> list[Intent]:
        """What may have been created without being heard."""
        entries = json.loads(self._store.setting(self._setting) or "{}")
        return [Intent(sha256, Path(entry["path"]), entry["file_id"]) for sha256, entry in entries.items()]

    def intend(self, intent: Intent) -> None:
        """Remember an intent, in the place of an earlier one for the same file."""
        self._keep([other for other in self.intents() if other.sha256 != intent.sha256] + [intent])

    def forget(self, sha256: str) -> None:
        """Drop an intent: its batch is registered, or none was created."""
        self._keep([intent for intent in self.intents() if intent.sha256 != sha256])

    def _keep(self, intents: list[Intent]) -> None:
        entries = {intent.sha256: {"path": str(intent.path), "file_id": intent.file_id} for intent in intents}
        self._store.set(self._setting, json.dumps(entries))

    def known(self) -> frozenset[str]:
        """The ids of all batches, also of other providers."""
        return frozenset(record.id for record in self._store.batches())

    def unfinished(self) -> list[BatchRecord]:
        """The batches whose answers are not all in the store."""
        return [
            record
            for record in self._store.batches()
            if record.provider == self._provider and record.status not in ENDED
        ]

    def reserved(self, file: BatchFile) -> Reservation:
        """The most that a file may cost; without a cost when the price of one request is unknown."""
        parts = [self._reservation(request) for request in requests_of(file)]
        costs = [part.cost for part in parts if part.cost is not None]
        return Reservation(sum(part.tokens for part in parts), sum(costs) if len(costs) == len(parts) else None)

    def register(self, batch: str, file: BatchFile) -> None:
        """Keep the id of a batch and its open attempts, of which an earlier process may have written a part."""
        if batch in self.known():
            self._store.begin(self._unsettled(file), self._reservation, batch=batch)
        else:
            record = BatchRecord(batch, self._provider, str(file.path), "validating")
            self._store.add_batch(record, self._unsettled(file), self._reservation)

    def _unsettled(self, file: BatchFile) -> Iterator[CaptionRequest]:
        for request in requests_of(file):
            if not self._store.is_open(request.key) and self._store.answer(request.key) is None:
                yield request

    def was_asked(self, key: str) -> bool:
        """Whether a request that is not open any more was sent before."""
        return self._store.answer(key) is not None or bool(self._store.faults(key))

    def open_keys(self, batch: str) -> frozenset[str]:
        """The requests of a batch that are not settled."""
        return frozenset(self._store.open_keys(batch))

    def settle(self, key: str, result: Answer | Fault) -> None:
        """Keep one result."""
        self._store.settle(key, result, self._price(result))

    def settle_rest(self, batch: str, fault: Fault) -> list[str]:
        """Close the requests of a batch that got no line; their keys."""
        keys: list[str] = sorted(self._store.open_keys(batch))
        for key in keys:
            self.settle(key, fault)
        return keys

    def see(self, batch: str, status: str, output_file: str | None = None, error_file: str | None = None) -> None:
        """Keep the state of a batch; a status in `ENDED` only when everything is settled."""
        self._store.update_batch(batch, status, output_file, error_file)

    def abandon(self, batch: str) -> int:
        """Close the open requests of a batch as lost, at the cost that was reserved where its file tells it."""
        record = next(record for record in self._store.batches() if record.id == batch)
        path = Path(record.input_file)
        reserved: dict[str, int | None] = {}
        if path.exists():
            reserved = {request.key: self._reservation(request).cost for request in requests_of(read_batch_file(path))}
        keys: list[str] = sorted(self._store.open_keys(batch))
        for key in keys:
            self._store.settle(key, Fault("lost", f"batch {batch} was given up"), reserved.get(key))
        self.see(batch, ABANDONED, record.output_file, record.error_file)
        return len(keys)
