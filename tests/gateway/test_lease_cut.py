"""The end of the recorder's lease, as a door sees it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from doors import STREAM, house, run, until
from sealward.errors import Reason
from sealward.formats.frames import frame


@pytest.mark.parametrize("pushed", [True, False], ids=["told", "connection lost"])
def test_streams_are_cut_when_the_recorder_can_no_longer_close_them(tmp_path: Path, pushed: bool) -> None:
    """Told that the lease is over the door ends what runs and closes it by entries; a lost recorder ends it as well."""

    async def scenario() -> None:
        async with house(tmp_path) as home:
            home.recorder.silent.add("close")
            caller = await home.connect()
            await caller.send("POST", "/v1/chat/completions", STREAM)
            await until(lambda: home.recorder.unanswered)
            await caller.head()
            (writer,) = home.recorder.writers
            if pushed:
                writer.write(frame({"push": "cut", "reason": Reason.KEY_UNAVAILABLE}))
            else:
                writer.close()
            rest = await asyncio.wait_for(caller.reader.read(), 5)
            assert b"[DONE]" not in rest

    run(scenario)
