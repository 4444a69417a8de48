# ruff: noqa: RUF001 - names of languages in their own scripts; one of TMDB's mixes two of them
"""Names of languages → their ISO 639-1 codes, as TMDB numbers them (`cn` is its Cantonese).

TMDB gives a spoken language by its own name ("Français"), older data sets by the English one, and
some by the name only, so both stand here: the names of TMDB's `/configuration/languages` and those
found in data sets made from it.
"""

import re
from typing import Final

_CODE: Final = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})+")

_NAMES: Final = """
aa Afar|Qafar af
ab Abkhazian
ae Avestan
af Afrikaans
ak Akan|Ákán
am Amharic
an Aragonés|Aragonese
ar العربية|Arabic
as Assamese|অসমীয়া
av Avaric|магӏарул мацӏ
ay Aymara
az Azərbaycan|Azerbaijani
ba Башҡорт теле|Bashkir
be беларуская мова|Belarusian
bg български език|Bulgarian|български
bi Bislama
bm Bamanankan|Bambara
bn বাংলা|Bengali
bo Tibetan|བོད་སྐད་།
br Breton|Brezhoneg
bs Bosanski|Bosnian
ca Català|Catalan
ce Chechen
ch Finu' Chamorro|Chamorro
cn 广州话 / 廣州話|Cantonese|粵語|广州话|廣州話
co Corsican
cr Cree
cs Český|Czech|Čeština
cu Slavic
cv Chuvash
cy Cymraeg|Welsh
da Dansk|Danish
de Deutsch|German
dv Divehi
dz Dzongkha
ee Èʋegbe|Ewe
el ελληνικά|Greek
en English
eo Esperanto
es Español|Spanish
et Eesti|Estonian
eu euskera|Basque
fa فارسی|Persian|Farsi
ff Fulfulde|Fulah
fi suomi|Finnish
fj Fijian
fo Faroese
fr Français|French
fy Frisian
ga Gaeilge|Irish
gd Gaelic|Scottish Gaelic
gl Galego|Galician
gn Guarani
gu Gujarati
gv Manx
ha Hausa
he עִבְרִית|Hebrew|עברית
hi हिन्दी|Hindi
ho Hiri Motu
hr Hrvatski|Croatian
ht Haitian; Haitian Creole
hu Magyar|Hungarian
hy Armenian
hz Herero
ia Interlingua
id Bahasa indonesia|Indonesian
ie Interlingue
ig Igbo
ii Yi
ik Inupiaq
io Ido
is Íslenska|Icelandic
it Italiano|Italian
iu Inuktitut
ja 日本語|Japanese
jv Javanese
ka ქართული|Georgian
kg Kongo
ki Kikuyu
kj Kuanyama
kk қазақ|Kazakh
kl Kalaallisut
km Khmer
kn Kannada
ko 한국어/조선말|Korean|한국어
kr Kanuri
ks Kashmiri
ku Kurdish
kv Komi
kw Cornish
ky Kirghiz
la Latin
lb Letzeburgesch|Luxembourgish
lg Ganda
li Limburgish
ln Lingala
lo Lao
lt Lietuvių|Lietuvi\x9akai|Lithuanian
lu Luba-Katanga
lv Latviešu|Latvian
mg Malagasy
mh Marshall
mi Maori
mk Macedonian
ml Malayalam
mn Mongolian
mo Moldavian
mr Marathi
ms Bahasa melayu|Malay
mt Malti|Maltese
my Burmese|Myanmar
na Nauru
nb Bokmål|Norwegian Bokmål
nd Ndebele
ne Nepali
ng Ndonga
nl Nederlands|Dutch
nn Norwegian Nynorsk
no Norsk|Norwegian
nv Navajo
ny Chichewa; Nyanja
oc Occitan
oj Ojibwa
om Oromo
or Oriya
os Ossetian; Ossetic
pa ਪੰਜਾਬੀ|Punjabi
pi Pali
pl Polski|Polish
ps پښتو|Pushto|Pashto
pt Português|Portuguese
qu Quechua
rm Raeto-Romance
rn Kirundi|Rundi
ro Română|Romanian
ru Pусский|Russian|Русский
rw Kinyarwanda
sa Sanskrit
sc Sardinian
sd Sindhi
se Northern Sami
sg Sango
sh Serbo-Croatian
si සිංහල|Sinhalese
sk Slovenčina|Slovak
sl Slovenščina|Slovenian
sm Samoan
sn Shona
so Somali
sq shqip|Albanian
sr Srpski|Serbian
ss Swati
st Sotho
su Sundanese
sv svenska|Swedish
sw Kiswahili|Swahili
ta தமிழ்|Tamil
te తెలుగు|Telugu
tg Tajik
th ภาษาไทย|Thai
ti Tigrinya
tk Turkmen
tl Tagalog|Filipino
tn Tswana
to Tonga
tr Türkçe|Turkish
ts Xitsonga|Tsonga
tt Tatar
tw Twi
ty Tahitian
ug Uighur
uk Український|Ukrainian|Українська
ur اردو|Urdu
uz ozbek|Uzbek
ve Venda
vi Tiếng Việt|Vietnamese
vo Volapük
wa Walloon
wo Wolof
xh Xhosa
xx No Language
yi Yiddish
yo Èdè Yorùbá|Yoruba
za Zhuang
zh 普通话|Mandarin|Chinese|中文
zu isiZulu|Zulu
"""

CODE_OF_NAME: Final = {
    name.casefold(): line[:2]
    for line in _NAMES.strip().splitlines()
    for name in line[3:].split("|")
}


def language_code(text: str) -> str | None:
    """The code for a code or a name of a language; None when it is neither."""
    if len(text) in (2, 3) and text.isascii() and text.isalpha() and text.islower():
        return CODE_OF_NAME.get(text, text) if len(text) == 3 else text
    known = CODE_OF_NAME.get(text.casefold())
    if known is not None:
        return known
    if len(text) == 2 and text.isascii() and text.isalpha():
        return text.lower()
    return text if len(text) <= 20 and _CODE.fullmatch(text) else None
