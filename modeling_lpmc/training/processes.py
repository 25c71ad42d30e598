"""What the processes of one run must agree on: whose turn it is to write, and when to stop."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object

Result = TypeVar("Result")


def from_process_zero(work: Callable[[], Result]) -> Result:
    """Do `work` in process zero alone; every process returns what it returned, or raises what it raised."""
    state = PartialState()
    outcome: list[tuple[Result | None, Exception | None]] = [(None, None)]
    if state.process_index == 0:
        try:
            outcome = [(work(), None)]
        except Exception as error:
            if state.num_processes == 1:
                raise
            outcome = [(None, error)]
    if state.num_processes > 1:
        broadcast_object_list(outcome)
    result, fault = outcome[0]
    if fault is not None:
        raise fault
    return result  # type: ignore[return-value]  # None only where `work` returned it


def any_process(mine: bool) -> bool:
    """Whether `mine` is true in any of the processes; the same answer in all of them."""
    state = PartialState()
    if state.num_processes == 1:
        return mine
    flag = torch.tensor(int(mine), device=state.device)
    torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX)
    return bool(flag.item())


def of_all_processes(mine: list[float]) -> list[list[float]]:
    """The `mine` of every process, in their order."""
    gathered: list[list[float]] = gather_object([mine])
    return gathered
