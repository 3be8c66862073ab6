"""The networks of runs, to compare them."""

import torch
from torch import Tensor

from adop.run.run import Run


def network_of(run: Run) -> Tensor:
    """Return all weights of a run's network, one after the other."""
    return torch.cat([parameter.detach().flatten() for parameter in run.pipeline.network.parameters()])
