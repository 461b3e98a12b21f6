"""Scans of a JPEG, before it is decoded."""

from __future__ import annotations

import pytest

from dcsp.errors import ImageError
from dcsp.images.decode import check_image, decode_rgb, probe_size
from dcsp.images.scans import has_too_many_scans
from tests.images.pictures import encode, smooth


def with_scans(scans: int) -> bytes:
    """A progressive JPEG with so many empty scans more."""
    data = encode(smooth(64, 64), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    head = data[last : last + 2 + int.from_bytes(data[last + 2 : last + 4], "big")]
    return data[:-2] + (head + bytes(2)) * scans + data[-2:]


def test_a_jpeg_of_thousands_of_scans_is_refused_before_it_is_decoded() -> None:
    """Each is a pass over all pixels: one file took minutes."""
    assert decode_rgb(with_scans(50)).shape == (*check_image(with_scans(50)), 3)
    for data in (with_scans(150), with_scans(5000)):
        for read in (decode_rgb, check_image, probe_size):
            with pytest.raises(ImageError, match="more than 100 scans") as caught:
                read(data)
            assert caught.value.reason == "too_many_scans"


def test_scans_of_other_images_in_a_file_do_not_count() -> None:
    scans = with_scans(60)
    thumbnail = encode(smooth(64, 64), "JPEG", exif=b"Exif\0\0" + scans)
    assert check_image(thumbnail) == (64, 64)
    assert check_image(scans + scans) == (64, 64)


def sequential(components: int, of_a_scan: int, scans: int) -> bytes:
    """The markers of a JPEG that is not progressive."""
    frame = bytes([8, 0, 8, 0, 8, components, *[1, 0x11, 0] * components])
    scan = bytes([of_a_scan, *[1, 0] * of_a_scan, 0, 63, 0])
    start = b"\xff\xc0" + (len(frame) + 2).to_bytes(2, "big") + frame
    body = b"\xff\xda" + (len(scan) + 2).to_bytes(2, "big") + scan + bytes(9)
    return b"\xff\xd8" + start + body * scans + b"\xff\xd9"


@pytest.mark.parametrize(
    ("components", "of_a_scan", "scans", "is_too_many"),
    [(3, 1, 150, True), (3, 1, 90, False), (3, 3, 150, False), (1, 1, 150, False)],
)
def test_a_decoder_ends_with_a_scan_of_all_components(
    components: int, of_a_scan: int, scans: int, is_too_many: bool
) -> None:
    assert has_too_many_scans(sequential(components, of_a_scan, scans)) == is_too_many


def test_more_whole_scans_are_no_work_for_a_decoder() -> None:
    data = encode(smooth(64, 64), "JPEG")
    scan = data[data.rindex(b"\xff\xda") : -2]
    with pytest.raises(ImageError, match="broken data stream"):
        decode_rgb(data[:-2] + scan * 5000 + data[-2:])


@pytest.mark.parametrize("cut", [3, 9, 20, 160])
def test_markers_that_are_cut_off_are_no_scans(cut: int) -> None:
    assert not has_too_many_scans(encode(smooth(64, 64), "JPEG")[:cut])
