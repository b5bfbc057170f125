"""What surrounds DeepMind Lab's engine, against the stand-in: maps, temporary folders, causes that it only prints."""

import errno
import os
import signal
import time

import pytest

from dreamer import doctor, envs
from dreamer.envs import lab_engine
from dreamer.envs.dmlab import DMLab
from dreamer.envs.lab_engine import LevelCache, TemporaryFolder
from dreamer.envs.worker import Worker

LEVEL = "explore_small"  # compiles its map


@pytest.fixture
def maps(tmp_path):
    """A folder of compiled maps."""
    return tmp_path / "maps"


def compiled(lab, maps, seed=0):
    """How often a new environment compiles its map for one episode."""
    env = DMLab(LEVEL, level_cache=str(maps))
    env.reset(seed)
    env.close()
    return len(lab.INSTANCES[-1].compiled)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("keep", [0, 1, 100, -1], ids=["empty", "byte", "half", "all but one"])
def test_a_truncated_map_is_compiled_anew_and_replaced(lab, maps, keep):
    assert compiled(lab, maps) == 1
    whole = (maps / "maze").read_bytes()
    (maps / "maze").write_bytes(whole[:keep])
    assert compiled(lab, maps) == 1
    assert (maps / "maze").read_bytes() == whole
    assert compiled(lab, maps) == 0
    assert names(maps) == ["maze"]


def test_a_map_with_other_bytes_is_compiled_anew(lab, maps):
    compiled(lab, maps)
    content = bytearray((maps / "maze").read_bytes())
    content[45] ^= 255  # within the compressed data
    (maps / "maze").write_bytes(content)
    assert compiled(lab, maps) == 1


def test_a_disk_that_is_full_ends_no_episode_and_leaves_no_part(lab, maps, monkeypatch, capsys):
    real = lab_engine.shutil.copyfile

    def full(source, target):
        if "maps" in str(target):
            open(target, "wb").close()
            raise OSError(errno.ENOSPC, "No space left on device", str(target))
        return real(source, target)

    monkeypatch.setattr(lab_engine.shutil, "copyfile", full)
    assert compiled(lab, maps) == 1
    assert names(maps) == []
    assert "does not take the map maze: [Errno 28] No space left on device" in capsys.readouterr().err


def test_a_folder_that_goes_away_is_made_again_and_one_that_cannot_be_is_done_without(lab, maps):
    env = DMLab(LEVEL, level_cache=str(maps))
    maps.rmdir()
    env.reset(0)
    assert names(maps) == ["maze"]
    (maps / "maze").unlink()
    maps.rmdir()
    maps.touch()
    assert env.reset(1)["is_first"]
    assert lab.INSTANCES[-1].compiled == ["maze", "maze"]
    with pytest.raises(envs.EnvError, match=r"level_cache .*/maps cannot be used as a folder: File exists"):
        DMLab(LEVEL, level_cache=str(maps))
    env.close()


def test_a_mount_that_does_not_answer_at_the_start_is_done_without(maps, monkeypatch, tmp_path):
    def stale(*args, **kwargs):
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(lab_engine.Path, "mkdir", stale)
    cache = LevelCache(maps)
    (tmp_path / "map.pk3").write_bytes(b"map")
    cache.write("maze", str(tmp_path / "map.pk3"))
    assert not cache.fetch("maze", str(tmp_path / "fetched.pk3"))


def test_parts_of_maps_that_killed_processes_left_are_removed(maps):
    maps.mkdir()
    old, new = maps / ".maze.1.partial", maps / ".maze.2.partial"
    for path in (old, new):
        path.touch()
    os.utime(old, (time.time() - 7200,) * 2)
    LevelCache(maps)
    assert names(maps) == [".maze.2.partial"]  # which another process may be writing


def test_temporary_folders_of_killed_processes_are_removed_at_the_next_start(lab, tmp_path):
    def folders():
        return [path for path in tmp_path.iterdir() if "dreamer_lab_" in path.name or "dmlab_temp" in path.name]

    working, killed = (Worker(DMLab, {"task": "collect"}) for _ in range(2))
    for worker in (working, killed):
        worker.reset(0)
    assert len(folders()) == 2
    assert all((folder / "baselab" / "q3config_server.cfg").is_file() for folder in folders())
    os.kill(killed.pid, signal.SIGKILL)
    killed.close()
    assert len(folders()) == 2
    third = Worker(DMLab, {"task": "collect"})
    assert len(folders()) == 2
    assert working.reset(1)["is_first"]
    for worker in (working, third):
        worker.close()
    assert folders() == []


def test_a_level_that_does_not_start_leaves_no_temporary_folder(lab, tmp_path):
    with pytest.raises(envs.EnvError):
        DMLab("contributed/no")
    assert names(tmp_path) == []


@pytest.mark.parametrize("moment", ["before it is opened", "before it is locked"])
def test_a_folder_that_is_taken_for_an_abandoned_one(moment, tmp_path, monkeypatch):
    """By another process that starts, between the making and the locking: a second one is made."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(lab_engine.tempfile, "tempdir", None)
    make, lock, made, locked = lab_engine.tempfile.mkdtemp, lab_engine.fcntl.flock, [], []

    def mkdtemp(**options):
        made.append(make(**options))
        if moment == "before it is opened" and len(made) == 1:
            lab_engine.shutil.rmtree(made[0])
        return made[-1]

    def flock(descriptor, how):
        locked.append(descriptor)
        if moment == "before it is locked" and len(locked) == 1:
            lab_engine.shutil.rmtree(made[0])
        lock(descriptor, how)

    monkeypatch.setattr(lab_engine.tempfile, "mkdtemp", mkdtemp)
    monkeypatch.setattr(lab_engine.fcntl, "flock", flock)
    folder = TemporaryFolder()
    assert len(made) == 2
    assert os.path.isdir(folder.path)
    folder.close()
    assert names(tmp_path) == []


def test_a_library_that_the_engine_lacks_is_named_with_what_it_printed(lab, monkeypatch):
    monkeypatch.setenv("STAND_IN_LACKS", "libOSMesa.so.8")
    with pytest.raises(envs.EnvError) as caught:
        envs.make("dmlab", "collect")
    message = " ".join(str(caught.value).split())
    assert (
        'does not start the level "contributed/dmlab30/rooms_collect_good_objects_train": Failed to connect' in message
    )
    assert message.endswith(
        "the end of its output: libOSMesa.so.8: cannot open shared object file: No such file or directory"
    )

    def absent(name):
        raise OSError(name)

    monkeypatch.setattr(lab_engine.ctypes, "CDLL", absent)
    with pytest.raises(
        envs.EnvError, match=r"Failed to connect RL API \(libSDL2-2\.0\.so\.0 and libOSMesa\.so\.8 missing"
    ) as caught:
        DMLab("collect")
    assert str(caught.value).endswith("apt-get install libsdl2-2.0-0 libosmesa6)")


def test_a_missing_zip_is_named_where_a_map_is_compiled(lab, monkeypatch):
    monkeypatch.setenv("STAND_IN_LACKS", "zip")
    env = envs.make("dmlab", LEVEL)
    with pytest.raises(
        envs.EnvError, match=r"(?s)Failed to compile map.*the end of its output:\nsh: 1: zip: not found$"
    ):
        env.reset(0)
    env.close()
    monkeypatch.setattr(lab_engine.shutil, "which", lambda name: None)
    env = DMLab(LEVEL)
    with pytest.raises(envs.EnvError, match=r"\(the program zip missing here, apt-get install zip\)$"):
        env.reset(0)
    env.close()


def test_other_errors_name_no_package(monkeypatch):
    monkeypatch.setattr(lab_engine.shutil, "which", lambda name: None)
    assert lab_engine.lacking('Failed to init environment - "no level"') == ""


def test_doctor_starts_a_level_and_begins_an_episode(lab, monkeypatch):
    (check,) = doctor.check_suite("dmlab")
    assert (check.status, check.fix) == ("ok", "")
    monkeypatch.setenv("STAND_IN_LACKS", "zip")
    (check,) = doctor.check_suite("dmlab")
    assert check.status == "fail"
    assert "Failed to compile map" in check.value
    assert check.value.endswith("zip: not found")
    assert check.fix == "its engine takes: apt-get install libsdl2-2.0-0 libosmesa6 zip"


def test_what_is_no_module_has_no_levels(monkeypatch):
    for broken in (None, ValueError("deepmind_lab.__spec__ is None")):

        def find_spec(name, broken=broken):
            if broken:
                raise broken

        monkeypatch.setattr(lab_engine.importlib.util, "find_spec", find_spec)
        assert lab_engine.levels() is None
