import platform
import re

from vlga_jax.training.processor import processor


def test_processor_names_the_machine_and_hashes_its_abilities() -> None:
    assert re.fullmatch(rf"{re.escape(platform.machine())}-[0-9a-f]{{8}}", processor())
    assert processor() == processor()
