"""Texts of a user's files in figures."""


def plain(text):
    """``text`` as it stands: Matplotlib takes what is between two dollar signs for a formula."""
    return text.replace("$", r"\$")
