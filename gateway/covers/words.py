"""The texts of a cover page, per language. `{…}` stands for a value."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class CoverWords:
    """All that a cover page says in one language."""

    heading: str
    intro: str
    steps: tuple[str, str, str]  # the portal's address, the letter's number, the code
    alike: str
    direct: str
    term_title: str
    term_after_posting: str
    term_after_delivery: str
    days: str
    one_day: str
    personal_title: str
    personal: str
    questions_title: str
    questions: str
    follows: str
    attention: str
    box: str | None  # the word before a box number; None: that of the region


WORDS: Final[Mapping[str, CoverWords]] = {
    "nl": CoverWords(
        heading="U kunt deze brief ook digitaal ophalen",
        intro=(
            "Van deze brief bestaat een digitaal exemplaar, met dezelfde inhoud als op papier. "
            "U kunt het lezen en bewaren op een computer, tablet of smartphone. Zo haalt u het op:"
        ),
        steps=("Ga naar dit adres", "Vul het nummer van de brief in", "Vul uw code in"),
        alike="In de code is 0 altijd een nul en 1 altijd een één.",
        direct="Of typ dit adres over; u hebt dan alleen nog uw code nodig:",
        term_title="Tot wanneer",
        term_after_posting="Het digitale exemplaar blijft beschikbaar tot {days} na de verzending van deze brief.",
        term_after_delivery="Het digitale exemplaar blijft beschikbaar tot {days} na de aflevering van deze brief.",
        days="{count} dagen",
        one_day="1 dag",
        personal_title="Uw code is persoonlijk",
        personal=(
            "Geef de code aan niemand door. Niemand zal u ernaar vragen, ook niet per telefoon, e-mail of sms. "
            "Bewaar deze pagina bij de brief."
        ),
        questions_title="Vragen over deze brief",
        questions="{sender}: {contact}",
        follows="De brief zelf begint na deze pagina.",
        attention="t.a.v. {name}",
        box="bus",
    ),
    "fr": CoverWords(
        heading="Cette lettre est aussi disponible en ligne",
        intro=(
            "Il existe un exemplaire numérique de cette lettre, dont le contenu est le même que sur papier. "
            "Vous pouvez le lire et le conserver sur un ordinateur, une tablette ou un smartphone. "
            "Pour l’obtenir :"
        ),
        steps=("Rendez-vous à cette adresse", "Indiquez le numéro de la lettre", "Indiquez votre code"),
        alike="Dans le code, 0 est toujours un zéro et 1 toujours le chiffre un.",
        direct="Ou recopiez cette adresse ; il ne vous faut alors plus que votre code :",
        term_title="Jusqu’à quand",
        term_after_posting=(
            "L’exemplaire numérique reste disponible pendant {days} à partir de l’envoi de cette lettre."
        ),
        term_after_delivery=(
            "L’exemplaire numérique reste disponible pendant {days} à partir de la remise de cette lettre."
        ),
        days="{count} jours",
        one_day="1 jour",
        personal_title="Votre code est personnel",
        personal=(
            "Ne communiquez ce code à personne. Nul ne vous le demandera, ni par téléphone, ni par e-mail, "
            "ni par SMS. Conservez cette page avec la lettre."
        ),
        questions_title="Des questions sur cette lettre",
        questions="{sender} : {contact}",
        follows="La lettre elle-même commence après cette page.",
        attention="à l’att. de {name}",
        box="bte",
    ),
    "de": CoverWords(
        heading="Diesen Brief können Sie auch digital abrufen",
        intro=(
            "Von diesem Brief gibt es ein digitales Exemplar mit demselben Inhalt wie auf Papier. "
            "Sie können es auf einem Computer, Tablet oder Smartphone lesen und aufbewahren. So rufen Sie es ab:"
        ),
        steps=("Öffnen Sie diese Adresse", "Geben Sie die Nummer des Briefes ein", "Geben Sie Ihren Code ein"),
        alike="Im Code ist 0 immer eine Null und 1 immer eine Eins.",
        direct="Oder tippen Sie diese Adresse ab; dann brauchen Sie nur noch Ihren Code:",
        term_title="Bis wann",
        term_after_posting="Das digitale Exemplar bleibt bis {days} nach dem Versand dieses Briefes verfügbar.",
        term_after_delivery="Das digitale Exemplar bleibt bis {days} nach der Zustellung dieses Briefes verfügbar.",
        days="{count} Tage",
        one_day="1 Tag",
        personal_title="Ihr Code ist persönlich",
        personal=(
            "Geben Sie den Code an niemanden weiter. Niemand wird Sie danach fragen, auch nicht am Telefon, "
            "per E-Mail oder per SMS. Bewahren Sie diese Seite beim Brief auf."
        ),
        questions_title="Fragen zu diesem Brief",
        questions="{sender}: {contact}",
        follows="Der Brief selbst beginnt nach dieser Seite.",
        attention="z. H. {name}",
        box=None,
    ),
    "en": CoverWords(
        heading="You can also fetch this letter online",
        intro=(
            "There is a digital copy of this letter, with the same content as on paper. "
            "You can read it and keep it on a computer, tablet or smartphone. This is how to fetch it:"
        ),
        steps=("Go to this address", "Enter the number of the letter", "Enter your code"),
        alike="In the code, 0 is always a zero and 1 is always a one.",
        direct="Or type this address; then you need only your code:",
        term_title="Until when",
        term_after_posting="The digital copy stays available until {days} after this letter was posted.",
        term_after_delivery="The digital copy stays available until {days} after this letter was delivered.",
        days="{count} days",
        one_day="1 day",
        personal_title="Your code is personal",
        personal=(
            "Do not give the code to anyone. Nobody will ask you for it, not by telephone, e-mail or text message "
            "either. Keep this page with the letter."
        ),
        questions_title="Questions about this letter",
        questions="{sender}: {contact}",
        follows="The letter itself begins after this page.",
        attention="attn {name}",
        box=None,
    ),
}
