"""Korean particles (josa) chosen by the final sound of the word they follow."""

from __future__ import annotations

import re
from typing import Final

#: (form after a final consonant, form after a vowel)
PAIRS: Final[tuple[tuple[str, str], ...]] = (
    ("은", "는"),
    ("이", "가"),
    ("을", "를"),
    ("과", "와"),
    ("으로", "로"),
    ("이랑", "랑"),
    ("이나", "나"),
    ("이면", "면"),
    ("이고", "고"),
    ("이라고", "라고"),
    ("이라", "라"),
    ("이라서", "라서"),
    ("이지만", "지만"),
    ("이에요", "예요"),
    ("이요", "요"),
    ("이야", "야"),
    ("이죠", "죠"),
    ("이네", "네"),
    ("이네요", "네요"),
    ("이니까", "니까"),
    ("이었어", "였어"),
    ("이었어요", "였어요"),
    ("이었는데", "였는데"),
    ("이란", "란"),
    ("이라도", "라도"),
    ("이나요", "나요"),
    ("이군요", "군요"),
    ("이구나", "구나"),
    ("이었군요", "였군요"),
    ("이라면", "라면"),
    ("이라는", "라는"),
    ("이래", "래"),
    ("이지", "지"),
    ("이며", "며"),
    ("이라며", "라며"),
)

#: Particles with one form only; skeletons may write them the same way.
FIXED: Final = frozenset(
    {
        "에",
        "에도",
        "에는",
        "에서",
        "에게",
        "한테",
        "한테는",
        "도",
        "만",
        "의",
        "까지",
        "부터",
        "처럼",
        "보다",
        "네",
        "인",
        "일",
        "인데",
        "인데요",
        "인가요",
        "에요",
    }
)

#: How Latin names and the dataset's tags are read aloud; only the last syllable matters.
READINGS: Final[dict[str, str]] = {
    "Tom": "톰",
    "Anna": "애나",
    "Emma": "에마",
    "Mike": "마이크",
    "Lucy": "루시",
    "David": "데이비드",
    "#Person1#": "퍼슨원",
    "#Person2#": "퍼슨투",
    "#Person3#": "퍼슨쓰리",
    "#PhoneNumber#": "번호",
    "#Address#": "주소",
    "#DateOfBirth#": "생년월일",
    "#PassportNumber#": "번호",
    "#SSN#": "번호",
    "#CardNumber#": "번호",
    "#CarNumber#": "번호",
    "#Email#": "이메일",
}

_DIGITS: Final[dict[str, str]] = dict(zip("0123456789", "영일이삼사오육칠팔구", strict=True))
_BY_FORM: Final[dict[str, tuple[str, str]]] = {form: pair for pair in PAIRS for form in pair}


def final_consonant(word: str) -> int:
    """Index of the last syllable's final consonant: 0 for none, 8 for ㄹ (Unicode jongseong order)."""
    read = READINGS.get(word, word)
    read = re.sub(r"[\s)\"'”’.,!?]+$", "", read)
    if not read:
        raise ValueError(f"no sound to choose a particle by in {word!r}")
    last = _DIGITS.get(read[-1], read[-1])
    code = ord(last) - 0xAC00
    if not 0 <= code < 11172:
        raise ValueError(f"no reading known for {word!r}; add it to READINGS")
    return code % 28


def particle(word: str, form: str) -> str:
    """The particle of ``form``'s pair that fits after ``word``; either form of the pair may be given.

    ``으로`` becomes ``로`` after a vowel and after ㄹ. ``호격`` names the vocative 아/야.
    """
    if form in FIXED:
        return form
    if form == "호격":
        return "아" if final_consonant(word) else "야"
    pair = _BY_FORM.get(form)
    if pair is None:
        raise ValueError(f"unknown particle {form!r}")
    final = final_consonant(word)
    if pair[0] == "으로" and final == 8:
        return "로"
    return pair[0] if final else pair[1]


def attach(word: str, form: str) -> str:
    """``word`` with the fitting particle glued on; a leading ``+`` is the casual given-name style.

    >>> attach("서울", "으로"), attach("부산", "으로"), attach("지은", "+가"), attach("민수", "+가")
    ('서울로', '부산으로', '지은이가', '민수가')
    """
    if form.startswith("+"):
        casual = form[1:]
        if word not in READINGS and final_consonant(word):
            return f"{word}이{particle('가', casual) if casual else ''}"
        return word + (particle(word, casual) if casual else "")
    return word + particle(word, form)
