from __future__ import annotations

import pytest

from orchestrator.errors import UserError
from orchestrator.plan import Resources
from orchestrator.resources import Machine, Meter, Request, check, student_request, teacher_request

BOX = Machine(cpus=8, gpus=2)


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (Request(1, 1, 0), 8),
        (Request(1, 3, 0), 2),
        (Request(2, 2, 0), 2),
        (Request(1, 1, 1), 2),
        (Request(1, 1, 0.5), 4),
        (Request(1, 1, 0.6), 2),  # two thirds of a GPU cannot be put together from two
        (Request(1, 1, 0.3), 6),
        (Request(2, 1, 1), 1),
        (Request(1, 9, 0), 0),
    ],
)
def test_as_many_trials_fit_as_the_scarcest_resource_allows(request_: Request, expected: int) -> None:
    assert request_.times(BOX) == expected
    meter = Meter(BOX, 0)
    begun = 0
    while meter.fits(request_):
        meter.take(str(begun), request_)
        begun += 1
    assert begun == expected


def test_what_a_trial_gives_back_can_be_taken_again() -> None:
    meter = Meter(Machine(2, 0), 1)
    meter.take("a", Request(1, 1, 0))
    assert not meter.fits(Request(1, 1, 0))  # one at a time was asked for
    meter.give("a")
    meter.give("a")
    assert meter.fits(Request(1, 1, 0))


def test_teachers_share_all_cpus() -> None:
    resources = Resources(cpus_per_worker=2)
    assert student_request(resources).threads == 2
    assert teacher_request(resources, BOX, 1) == Request(1, 8, 0)
    assert teacher_request(resources, BOX, 3) == Request(1, 2, 0)
    assert teacher_request(resources, BOX, 100) == Request(1, 2, 0)
    assert teacher_request(Resources(num_workers=2), BOX, 2) == Request(2, 2, 0)


def test_a_trial_that_can_never_run_is_refused_in_one_line() -> None:
    check(Resources(cpus_per_worker=8), BOX)
    with pytest.raises(UserError) as cpus:
        check(Resources(num_workers=3, cpus_per_worker=3), BOX)
    assert str(cpus.value) == (
        "resources.cpus_per_worker: one trial asks for 3 x 3 CPUs, this machine or cluster has 8"
    )
    with pytest.raises(UserError, match=r"^resources.gpus_per_worker: one trial asks for 4 GPUs, .* has 2$"):
        check(Resources(gpus_per_worker=4), BOX)
