"""What tests of training runs share: the programs of their plan."""

import pytest

from tests.training.fitting import PLAN, programs_of
from vlga_jax.training.programs import Programs


@pytest.fixture(scope="module")
def programs() -> Programs:
    return programs_of(PLAN)
