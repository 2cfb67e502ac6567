import pytest

from evaluation.core.errors import BadData
from evaluation.core.files import check_no_external_links


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "secret").write_text("elsewhere")
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    (tmp_path / "folder" / "own").write_text("here")
    return tmp_path / "folder"


@pytest.mark.parametrize("target", ["../secret", "..", "/etc", "no/such/../../../secret"])
def test_a_link_that_leads_out_is_refused_by_name(folder, target):
    (folder / "inner" / "link").symlink_to(target if target[0] == "/" else f"../{target}")
    with pytest.raises(BadData, match=r"inner/link is a link that leads out of .*put a copy"):
        check_no_external_links(folder)


def test_links_within_and_the_folder_s_own_are_followed(folder):
    (folder / "inner" / "link").symlink_to("../own")
    door = folder.parent / "door"
    door.symlink_to(folder)
    for way in (folder, door):
        check_no_external_links(way)
    (folder / "own").rename(folder.parent / "own")
    (folder / "inner" / "link").unlink()
    (folder / "inner" / "link").symlink_to("../../own")
    for way in (folder, door):
        with pytest.raises(BadData, match="leads out"):
            check_no_external_links(way)
