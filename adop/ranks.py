"""Several processes that work on one run, as `torchrun` starts them: sums over all, and work that they share."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from adop.errors import UserError, one_line

PATIENCE = timedelta(days=2)  # the others wait while the first process prepares a run
ENDED = "ended"  # key in the processes' store: one of them has said why it ends

Item = TypeVar("Item")


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
    """Return which process this is; the only one unless `joined` is entered under `torchrun`."""
    if not (dist.is_available() and dist.is_initialized()):
        return Ranks()
    return Ranks(dist.get_rank(), dist.get_world_size())


def is_first_started() -> bool:
    """Return whether this process is the first one that `torchrun` has started, before `joined` is entered."""
    return not _is_started() or os.environ["RANK"] == "0"


def rank_device(name: str) -> str:
    """Return the device of this process: its own GPU where `torchrun` starts one process a GPU, else `name`."""
    if _is_started() and name in ("auto", "cuda") and torch.cuda.is_available():
        return f"cuda:{int(os.environ['LOCAL_RANK']) % torch.cuda.device_count()}"
    return name


@contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """Join the processes that `torchrun` has started, and leave them at the end; without `torchrun`, do nothing.

    Meanwhile only the first process prints.

    Args: device: of this process, see `rank_device`.
    Raises: UserError where a process makes out a mistake, or that another one has ended; SystemExit in all processes but
        the first to do so.
    """
    if not _is_started() or ranks().count > 1:
        yield ranks()
        return
    on_gpu = rank_device(device).startswith("cuda")
    if on_gpu:
        torch.cuda.set_device(rank_device(device))
    rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    store = _store(rank)
    with contextlib.ExitStack() as stack:
        if rank:
            nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
            stack.enter_context(contextlib.redirect_stdout(nowhere))
            stack.enter_context(contextlib.redirect_stderr(nowhere))
        dist.init_process_group(
            "nccl" if on_gpu else "gloo", store=store, rank=rank, world_size=count, timeout=PATIENCE
        )
        try:
            yield Ranks(rank, count)
        except ProcessLostError:
            _end_quietly_if_said(store)
            raise UserError(
                f"one of the {count} processes ended before its work was done; `--resume` continues a training from its "
                "newest checkpoint"
            ) from None
        except UserError:
            _end_quietly_if_said(store)
            raise
        finally:
            dist.destroy_process_group()


def wait() -> None:
    """Wait until every process has come here."""
    if ranks().count > 1:
        sum_(torch.zeros(1, device=_device()))


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
                    dist.send_object_list([item], 0, device=_device())
        elif own.first:
            received: list[Item] = [None]  # type: ignore[list-item]
            with _exchange():
                dist.recv_object_list(received, maker, device=_device())
            yield received[0]


def _is_started() -> bool:
    return dist.is_available() and dist.is_torchelastic_launched() and int(os.environ["WORLD_SIZE"]) > 1


def _end_quietly_if_said(store: dist.Store) -> None:
    """Raise SystemExit where another process has said why the work ends, so that only one sentence is printed."""
    if store.add(ENDED, 1) > 1:
        raise SystemExit(2)


def _device() -> torch.device:
    """Return the device whose tensors the processes exchange."""
    return torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")


def _store(rank: int) -> dist.Store:
    """Return the store through which the processes find each other; torchrun's own outlives each of them."""
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    is_master = rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != str(True)
    store = dist.TCPStore(host, port, None, is_master, wait_for_workers=False)
    return dist.PrefixStore(f"adop/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)


@contextmanager
def _exchange() -> Iterator[None]:
    """Tell a lost process from other errors."""
    try:
        yield
    except RuntimeError as error:
        raise ProcessLostError(one_line(error)) from error
