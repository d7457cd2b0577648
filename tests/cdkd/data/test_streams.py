"""Random streams keyed by purpose."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from cdkd.data.streams import generator, torch_generator


def test_streams_never_change():
    """Literals recorded when the streams were fixed: other numbers mean that old results cannot be repeated."""
    assert generator(0, "augmentation", 3, 7).integers(0, 2**32, 3).tolist() == [523539951, 775148697, 726335937]
    assert torch.randint(0, 2**31, (3,), generator=torch_generator(0, "student")).tolist() == [
        776927626,
        1217414915,
        1586510643,
    ]


def test_streams_are_the_same_in_another_process():
    program = (
        "import json; from cdkd.data.streams import generator; "
        "print(json.dumps(generator(5, 'order', 1).random(4).tolist()))"
    )
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert json.loads(printed) == generator(5, "order", 1).random(4).tolist()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((0, "a"), (1, "a")),
        ((0, "a"), (0, "b")),
        ((0, "a", 1), (0, "a", 2)),
        ((0, "a", 1), (0, "a", "1")),
        ((0, "a", "b"), (0, "ab")),
        ((0, 1, 23), (0, 12, 3)),
        ((0,), (0, 0)),
    ],
)
def test_different_purposes_have_different_streams(first: tuple, second: tuple):
    assert generator(*first).random() != generator(*second).random()
    assert torch_generator(*first).initial_seed() != torch_generator(*second).initial_seed()


def test_streams_of_neighbouring_examples_are_uncorrelated():
    draws = np.stack([generator(0, "augmentation", epoch, index).standard_normal(16)
                      for epoch in range(8) for index in range(64)])  # fmt: skip
    correlation = np.corrcoef(draws)
    off_diagonal = correlation[~np.eye(len(draws), dtype=bool)]
    assert abs(off_diagonal.mean()) < 0.005
    assert abs(draws.mean()) < 0.05
    assert draws.std() == pytest.approx(1, abs=0.05)


def test_numpy_integers_name_the_same_stream_as_python_integers():
    assert generator(np.int64(3), "a", np.int32(4)).random() == generator(3, "a", 4).random()


def test_a_fraction_names_no_stream():
    with pytest.raises(TypeError):
        generator(0, 1.5)


def test_global_generators_are_left_alone():
    torch.manual_seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    generator(0, "a").random(5)
    torch.rand(5, generator=torch_generator(0, "a"))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
