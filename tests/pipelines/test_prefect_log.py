"""What Prefect says of a failure besides the flow."""

import logging

import pytest

from pipelines.prefect_log import prefect_says_it_once


def test_a_failure_and_what_is_below_it_are_said_once(caplog):
    logger = logging.getLogger("prefect.task_runs")
    with caplog.at_level(logging.INFO), prefect_says_it_once():
        logger.error("Task run failed with state: Failed(message='x')", exc_info=True)
        logger.error("""Finished in state NotReady("Upstream task run 'a'")""")
        logger.error("Finished in state Failed('x')")
        logger.error("last failed:\nx")
        logger.info("Finished in state Completed()")
    logger.error("Finished in state Failed('y')")
    said = ["last failed:\nx", "Finished in state Completed()", "Finished in state Failed('y')"]
    assert [r.message for r in caplog.records] == said


@pytest.mark.integration
def test_a_run_with_a_failure(tmp_path, new_workspace):
    stage = "  {name}:\n    cmd: python stage.py {name} source.txt\n    deps: [{dep}]\n    outs: [{out}]\n"
    above, text = "source.txt", "stages:\n"
    for name in ("first", "middle", "last"):
        text += stage.format(name=name, dep=above, out=f"outputs/{name}/out.txt")
        above = f"outputs/{name}/out.txt"
    with new_workspace(tmp_path, text) as workspace:
        (tmp_path / "control" / "first-fails").touch()
        code, output = workspace.run(HTTP_PROXY="http://127.0.0.1:9", ALL_PROXY="socks5://127.0.0.1:9")
    assert code == 1
    assert "NotReady" not in output
    assert "NoneType" not in output
    assert "2 stages not started (middle, last): first: error: the input is bad" in output
    assert output.splitlines()[-1] == "virtex: error: first: error: the input is bad"
