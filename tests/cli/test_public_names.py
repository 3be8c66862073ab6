"""The public names of the package."""

import pytest

import adop
from adop.render.camera_settings import CameraSettings


def test_every_public_name_is_there():
    for name in adop.__all__:
        assert getattr(adop, name) is not None, name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        adop.nothing  # noqa: B018


def test_a_former_name_works_with_a_warning():
    with pytest.warns(DeprecationWarning, match=r"adop\.Look is called adop\.CameraSettings now"):
        assert adop.Look is CameraSettings
    assert "Look" not in adop.__all__
