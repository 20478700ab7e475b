"""The learner's numbers between its device and the machine's memory."""

from __future__ import annotations

import torch
from torch import nn

from learner.residence import Residence


def test_a_step_after_a_rest_is_the_step_without_one() -> None:
    def trained(rests: bool) -> list[float]:
        torch.manual_seed(0)
        module = nn.Linear(3, 2)
        optimizer = torch.optim.AdamW(module.parameters(), lr=0.1, fused=True)
        numbers = lambda: [  # noqa: E731
            *module.parameters(),
            *(value for state in optimizer.state.values() for value in state.values()),
        ]
        residence = Residence("cpu", numbers, away=rests)
        for step in range(4):
            residence.come_back()
            module(torch.full((1, 3), float(step))).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
            if rests:
                residence.leave()
                residence.leave()
        return [float(x) for p in module.parameters() for x in p.detach().flatten()]

    assert trained(rests=True) == trained(rests=False)


def test_what_is_away_lies_in_memory_of_its_own_that_is_used_again() -> None:
    tensor = torch.arange(4.0)
    here = tensor.data_ptr()
    residence = Residence("cpu", lambda: [tensor], away=False)
    residence.leave()
    away = tensor.data_ptr()
    assert away != here and tensor.tolist() == [0, 1, 2, 3]
    residence.come_back()
    tensor += 1
    residence.leave()
    assert tensor.data_ptr() == away and tensor.tolist() == [1, 2, 3, 4]
