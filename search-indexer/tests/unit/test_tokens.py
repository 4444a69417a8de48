"""Words become queries; nothing else does."""

from search_indexer.tokens import (
    Term,
    anywhere,
    exact_title,
    in_names,
    in_title,
    title_begins,
    tokens_of,
)

DARK = Term(word="dark", unfinished=False, stem="dark", corrections=("bark",))
KNIGHTS = Term(word="knights", unfinished=True, stem="knight")
OF = Term(word="of", unfinished=False, stem=None)


def test_a_films_tokens_say_where_a_word_stands() -> None:
    tokens = tokens_of(
        titles=["dark", "knight", "dark"],
        keys=["darkknight", ""],
        people=["nolan"],
        keywords=["bat"],
    )
    assert tokens == "'t/dark' 't/knight' 'k/darkknight' 'p/nolan' 'g/bat'"


def test_all_words_must_be_in_titles_the_last_as_a_beginning() -> None:
    assert in_title([DARK, KNIGHTS]) == "('t/dark' | 't/bark') & ('t/knights':*)"
    assert in_title([DARK, KNIGHTS], finished=True) == "('t/dark' | 't/bark') & ('t/knights')"
    assert in_names([KNIGHTS]) == "('t/knights':* | 'p/knights':* | 'g/knights':*)"


def test_anywhere_is_names_or_stems_or_the_beginning_of_a_title() -> None:
    found = anywhere([OF, KNIGHTS], "ofknights")
    names = "'t/knights':* | 'p/knights':* | 'g/knights':*"
    assert found == f"(({names} | 'knight')) | 'k/ofknights':*"
    assert "'t/of'" in anywhere([OF], "of")


def test_titles_as_a_whole() -> None:
    assert exact_title("darkknight") == "'k/darkknight'"
    assert title_begins("darkkn") == "'k/darkkn':*"
