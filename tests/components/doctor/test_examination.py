"""The whole examination."""

from components.doctor import examination
from components.doctor.examination import examine
from components.doctor.finding import attention, broken, fine, shown, summary


def a_check_that_fails(_):
    raise RuntimeError("no luck")
    yield


def test_a_check_that_fails_is_a_finding(monkeypatch):
    monkeypatch.setattr(examination, "CHECKS", (a_check_that_fails, lambda sections: iter([fine("x", "y")])))
    found = list(examine())
    assert [f.state for f in found] == ["fine", "broken", "fine"]
    assert found[1].name == "a check that fails"
    assert "no luck" in found[1].found


def test_parameters_that_cannot_be_read_do_not_end_it(workspace, monkeypatch):
    (workspace / "params.yaml").write_text("tokenize: {}\n")
    seen = []
    monkeypatch.setattr(examination, "CHECKS", (lambda sections: iter(seen.append(sections) or ()),))
    assert [f.state for f in examine()] == ["broken"]
    assert seen == [{}]


def test_no_check_needs_the_parameters(monkeypatch):
    monkeypatch.setattr(examination.services, "dvc", lambda _: iter(()))
    for check in examination.CHECKS:
        assert all(f.state in ("fine", "attention", "broken") for f in check({})), check


def test_text():
    found = shown(broken("disk", "word " * 40, "free some"), 80).splitlines()
    assert found[0].startswith("broken     disk           word")
    assert found[-1].strip() == "-> free some"
    assert max(map(len, found)) <= 80
    findings = [fine("a", ""), fine("b", ""), attention("c", "", "")]
    assert summary(findings) == "2 fine, 1 attention"
