import pytest

from components.core.redaction import redacted, redacted_values


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no URL: a? b@c", "no URL: a? b@c"),
        (
            "at https://me:pa55@host:81/a/b.pth?token=abc&x=1#sha256=00, or",
            "at https://host:81/a/b.pth#sha256=00, or",
        ),
        ("postgresql+psycopg2://me:p@ss@db/mlflow", "postgresql+psycopg2://db/mlflow"),
        ("{a: http://h/x?k=1,2, b: 'http://u@h/y?k'}", "{a: http://h/x, b: 'http://h/y'}"),
        ("(http://h/x?k=1)", "(http://h/x)"),
        ("http://h?k=1: HTTP 500", "http://h: HTTP 500"),
        ("http://h/#/experiments/1/runs/2", "http://h/#/experiments/1/runs/2"),
        ("http://h/x, y@z", "http://h/x, y@z"),
    ],
)
def test_urls_lose_user_and_query(text, expected):
    assert redacted(text) == expected


def test_secrets_of_the_environment_are_known_by_value(monkeypatch):
    monkeypatch.setenv("VIRTEX_DOWNLOAD_TOKEN", "tok/en+1")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "tok/en+1234")
    monkeypatch.setenv("SHORT_TOKEN", "abc")
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "team:pa55word")
    assert redacted("Bearer tok/en+1, tok%2Fen%2B1 abc tok/en+1234") == "Bearer ***, *** abc ***"
    assert redacted("team:pa55word, team, pa55word") == "***, team, ***"


def test_values_in_lists_and_mappings():
    given = {"a": ["http://u:p@h/x?y", 3], "b": {"c": None, "d": ("http://u@h",)}}
    assert redacted_values(given) == {"a": ["http://h/x", 3], "b": {"c": None, "d": ("http://h",)}}
