"""Names of countries → their ISO 3166-1 codes, as TMDB gives them, and a few other names.

TMDB keeps the codes of countries that are no more (`XC`, `YU`), and so does this table.
"""

from typing import Final

_NAMES: Final = """
AD Andorra
AE United Arab Emirates
AF Afghanistan
AG Antigua and Barbuda
AI Anguilla
AL Albania
AM Armenia
AN Netherlands Antilles
AO Angola
AQ Antarctica
AR Argentina
AT Austria
AU Australia
AW Aruba
AZ Azerbaijan
BA Bosnia and Herzegovina
BB Barbados
BD Bangladesh
BE Belgium
BF Burkina Faso
BG Bulgaria
BH Bahrain
BJ Benin
BM Bermuda
BO Bolivia
BR Brazil
BS Bahamas
BT Bhutan
BW Botswana
BY Belarus
BZ Belize
CA Canada
CD Congo
CF Central African Republic
CH Switzerland
CI Cote D'Ivoire
CK Cook Islands
CL Chile
CM Cameroon
CN China
CO Colombia
CR Costa Rica
CS Serbia and Montenegro
CU Cuba
CY Cyprus
CZ Czech Republic|Czechia
DE Germany
DJ Djibouti
DK Denmark
DM Dominica
DO Dominican Republic
DZ Algeria
EC Ecuador
EE Estonia
EG Egypt
ER Eritrea
ES Spain
ET Ethiopia
FI Finland
FJ Fiji
FO Faeroe Islands
FR France
GB United Kingdom|UK|Great Britain
GE Georgia
GF French Guiana
GH Ghana
GL Greenland
GM Gambia
GN Guinea
GP Guadaloupe
GR Greece
GT Guatemala
GW Guinea-Bissau
GY Guyana
HK Hong Kong
HN Honduras
HR Croatia
HT Haiti
HU Hungary
ID Indonesia
IE Ireland
IL Israel
IN India
IQ Iraq
IR Iran|Islamic Republic of Iran
IS Iceland
IT Italy
JM Jamaica
JO Jordan
JP Japan
KE Kenya
KG Kyrgyz Republic
KH Cambodia
KP North Korea
KR South Korea|Republic of Korea
KW Kuwait
KY Cayman Islands
KZ Kazakhstan
LA Lao People's Democratic Republic
LB Lebanon
LI Liechtenstein
LK Sri Lanka
LR Liberia
LS Lesotho
LT Lithuania
LU Luxembourg
LV Latvia
LY Libyan Arab Jamahiriya
MA Morocco
MC Monaco
MD Moldova
ME Montenegro
MG Madagascar
MH Marshall Islands
MK Macedonia|North Macedonia
ML Mali
MM Myanmar
MN Mongolia
MO Macao
MP Northern Mariana Islands
MR Mauritania
MT Malta
MU Mauritius
MX Mexico
MY Malaysia
MZ Mozambique
NA Namibia
NC New Caledonia
NE Niger
NG Nigeria
NI Nicaragua
NL Netherlands
NO Norway
NP Nepal
NZ New Zealand
OM Oman
PA Panama
PE Peru
PG Papua New Guinea
PH Philippines
PK Pakistan
PL Poland
PM St. Pierre and Miquelon
PR Puerto Rico
PS Palestinian Territory
PT Portugal
PY Paraguay
QA Qatar
RE Reunion
RO Romania
RS Serbia
RU Russia|Russian Federation
RW Rwanda
SA Saudi Arabia
SD Sudan
SE Sweden
SG Singapore
SI Slovenia
SK Slovakia
SM San Marino
SN Senegal
SO Somalia
SR Suriname
SV El Salvador
SY Syrian Arab Republic|Syria
SZ Swaziland
TC Turks and Caicos Islands
TD Chad
TH Thailand
TJ Tajikistan
TN Tunisia
TR Turkey
TT Trinidad and Tobago
TW Taiwan
TZ Tanzania
UA Ukraine
UG Uganda
US United States of America|USA|United States
UY Uruguay
UZ Uzbekistan
VA Holy See
VE Venezuela
VN Vietnam|Viet Nam
VU Vanuatu
WS Samoa
XC Czechoslovakia
XK Kosovo
YE Yemen
YU Yugoslavia
ZA South Africa
ZM Zambia
ZW Zimbabwe
"""

CODE_OF_NAME: Final = {
    name.casefold(): line[:2]
    for line in _NAMES.strip().splitlines()
    for name in line[3:].split("|")
}


def country_code(text: str) -> str | None:
    """The code for a code or a name of a country; None when it is neither."""
    if len(text) == 2 and text.isascii() and text.isalpha():
        return text.upper()
    return CODE_OF_NAME.get(text.casefold())
