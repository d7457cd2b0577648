from cdkd.data.errors import DataError


def test_the_message_is_one_line():
    error = DataError("a.json: broken\n  by a file name with\ta line end\r\n")
    assert str(error) == "a.json: broken by a file name with a line end"
    assert isinstance(error, ValueError)
