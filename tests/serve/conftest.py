"""One server over the fake model for the tests that leave it as it is."""

import pytest

from tests.serve.servers import running


@pytest.fixture(scope="module")
def server():
    with running() as started:
        yield started
        assert started.idle(), "requests or pages are left over"
