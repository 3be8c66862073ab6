"""Several processes that work on one run, as `torchrun` starts them: sums over all, and work that they share."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TextIO, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from adop.errors import UserError, one_line
from adop.interrupts import ignore_termination

PATIENCE = timedelta(days=2)  # the others wait while the first process prepares a run
CPU = torch.device("cpu")
ENDED = "ended"  # key in the processes' store: one of them has said why it ends

Item = TypeVar("Item")

_alone: list[bool] = []  # of the `alone` and `together` that are open, the innermost last
_shown: list[
    tuple[TextIO, TextIO]
] = []  # standard output and error of a process whose printing `joined` hides


class ProcessLostError(RuntimeError):
    """Another process of the run can no longer be reached."""


@dataclass(frozen=True)
class Ranks:
    """Which of several processes this one is."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this process prints and writes files."""
        return self.rank == 0


def ranks() -> Ranks:
    """Return which process this is; the only one unless `joined` is entered under `torchrun`, and in `alone`."""
    if not (dist.is_available() and dist.is_initialized()) or (_alone and _alone[-1]):
        return Ranks()
    return Ranks(dist.get_rank(), dist.get_world_size())


def is_first_process() -> bool:
    """Return whether this process is the first one that `torchrun` has started, before `joined` is entered."""
    return not _is_started() or os.environ["RANK"] == "0"


def rank_device(name: str) -> str:
    """Return the device of this process: its own GPU where `torchrun` starts one process a GPU, else `name`.

    Raises: UserError where there are fewer GPUs than processes on this machine, or one GPU is named for all.
    """
    if not _is_started() or not torch.cuda.is_available() or name == "cpu":
        return name
    local, count = int(os.environ["LOCAL_WORLD_SIZE"]), torch.cuda.device_count()
    if name not in ("auto", "cuda"):
        raise UserError(
            f"--device {name} is one GPU for {local} processes; leave it out, and each has its own"
        )
    if local > count:
        raise UserError(f"{local} processes need as many GPUs, and there are only {count}: start fewer")
    return f"cuda:{os.environ['LOCAL_RANK']}"


@contextmanager
def joined(device: str, advice: str = "start again") -> Iterator[None]:
    """Join the processes that `torchrun` has started, and leave them at the end; without `torchrun`, do nothing.

    Meanwhile only the first process prints. Numbers that decide what happens next go over the host (gloo), which notices
    when another process has ended; gradients of GPUs go by NCCL.

    Args:
        device: of this process, see `rank_device`.
        advice: what to do where another process has ended, for the error.

    Raises: UserError where a process finds a mistake, or that another one has ended; SystemExit in all processes but
        the first to do so.
    """
    if not _is_started() or ranks().count > 1:
        yield
        return
    rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    store = _store(rank)
    with contextlib.ExitStack() as stack:
        if rank:
            _shown.append((sys.stdout, sys.stderr))
            stack.callback(_shown.pop)
            nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
            stack.enter_context(contextlib.redirect_stdout(nowhere))
            stack.enter_context(contextlib.redirect_stderr(nowhere))
        try:
            own = rank_device(device)
            on_gpu = own.startswith("cuda") or (own == "auto" and torch.cuda.is_available())
            if on_gpu:
                torch.cuda.set_device(own)
            backend = "cpu:gloo,cuda:nccl" if on_gpu else "gloo"
            dist.init_process_group(backend, store=store, rank=rank, world_size=count, timeout=PATIENCE)
            yield
        except ProcessLostError as error:
            _end_quietly_if_said(store)
            raise UserError(
                f"one of the {count} processes ended before its work was done ({error}); {advice}"
            ) from None
        except UserError:
            _end_quietly_if_said(store)
            raise
        finally:
            if dist.is_initialized():
                dist.destroy_process_group()


def alone() -> AbstractContextManager[None]:
    """Let each process work by itself meanwhile, as if there were no other; only the first one still prints."""
    return _being_alone(True)


def together() -> AbstractContextManager[None]:
    """Reach all processes meanwhile, inside `alone` too."""
    return _being_alone(False)


@contextmanager
def _being_alone(is_alone: bool) -> Iterator[None]:
    _alone.append(is_alone)
    try:
        yield
    finally:
        _alone.pop()


@contextmanager
def heard() -> Iterator[None]:
    """Show what this process prints meanwhile, although `joined` hides what all but the first one print."""
    with contextlib.ExitStack() as stack:
        if _shown:
            stack.enter_context(contextlib.redirect_stdout(_shown[-1][0]))
            stack.enter_context(contextlib.redirect_stderr(_shown[-1][1]))
        yield


def wait() -> None:
    """Wait until every process has come here."""
    totals([0.0])


def totals(numbers: list[float]) -> list[float]:
    """Return the sums of numbers over all processes, once every process has come here."""
    if ranks().count == 1:
        return numbers
    return sum_(torch.tensor(numbers, dtype=torch.float64)).tolist()


def first_number(number: float) -> float:
    """Return a number of the first process, once every process has come here."""
    return totals([number * ranks().first])[0]


def sum_(tensor: Tensor) -> Tensor:
    """Replace a tensor by its sum over all processes, and return it; the same bits in each of them."""
    if ranks().count > 1:
        with _exchange():
            dist.all_reduce(tensor)
    return tensor


def largest_(tensor: Tensor) -> Tensor:
    """Replace a tensor by its largest values over all processes, and return it."""
    if ranks().count > 1:
        with _exchange():
            dist.all_reduce(tensor, dist.ReduceOp.MAX)
    return tensor


def copy_first_(tensors: Iterable[Tensor]) -> None:
    """Replace tensors by those of the first process."""
    if ranks().count > 1:
        with _exchange():
            for tensor in tensors:
                dist.broadcast(tensor, 0)


def from_all(item: Item) -> list[Item]:
    """Return the items of all processes: numbers, strings, dataclasses and tensors on the CPU."""
    items: list[Item] = [item] * ranks().count
    if ranks().count > 1:
        with _exchange():
            dist.all_gather_object(items, item)
    return items


def in_turns(count: int, make: Callable[[int], Item]) -> Iterator[Item]:
    """In the first process, yield `make(0)` to `make(count - 1)`, each made by the processes in turn.

    The others make their share and yield nothing.

    Args: make: returns what can be sent: numbers, strings, dataclasses and tensors on the CPU.
    """
    own = ranks()
    for number in range(count):
        maker = number % own.count
        if maker == own.rank:
            item = make(number)
            if own.first:
                yield item
            else:
                with _exchange():
                    dist.send_object_list([item], 0, device=CPU)
        elif own.first:
            received: list[Item] = [None]  # type: ignore[list-item]
            with _exchange():
                dist.recv_object_list(received, maker, device=CPU)
            yield received[0]


def _is_started() -> bool:
    return dist.is_available() and dist.is_torchelastic_launched() and int(os.environ["WORLD_SIZE"]) > 1


def _end_quietly_if_said(store: dist.Store) -> None:
    """Raise SystemExit where another process has said why the work ends, so that only one sentence is printed."""
    if store.add(ENDED, 1) > 1:
        raise SystemExit(2)


def _store(rank: int) -> dist.Store:
    """Return the store through which the processes find each other; torchrun's own outlives each of them."""
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    is_master = rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != str(True)
    store = dist.TCPStore(host, port, None, is_master, PATIENCE, wait_for_workers=False)
    return dist.PrefixStore(f"adop/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)


@contextmanager
def _exchange() -> Iterator[None]:
    """Turn the errors of an exchange, which fails where another process has ended, into `ProcessLostError`.

    `torchrun` sends SIGTERM to those that are left, which must not end them before they have said why they end.
    """
    try:
        yield
    except RuntimeError as error:
        ignore_termination()
        raise ProcessLostError(one_line(error)) from error
