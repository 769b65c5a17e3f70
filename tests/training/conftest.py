"""What tests of training runs share: a plan whose step is one program, one whose weights are packed, the programs."""

import pytest

from tests.training.fitting import PACKED, PLAN, programs_of
from vlga_jax.training.programs import Plan, Programs


@pytest.fixture(scope="module", params=[PLAN, PACKED], ids=["one program", "packed"])
def plan(request: pytest.FixtureRequest) -> Plan:
    assert (PLAN.packing, PACKED.packing is not None) == (None, True)
    return request.param


@pytest.fixture(scope="module")
def programs(plan: Plan) -> Programs:
    return programs_of(plan)
