#!/usr/bin/env bash
# Sends one letter through the document-delivery gateway, with bash, openssl, xmlsec1, sha256sum and curl (7.84 or newer).
#
#   send.sh REFERENCE RECIPIENT DOCUMENT.pdf [ANNEX.pdf ...]
#
# REFERENCE   your own for this letter; the same one is never delivered twice, so after any doubt give the same command
# RECIPIENT   a file as ../recipient.txt, or - to be asked: a personal number never stands on a command line
#
# The rest comes from the variables of ../sender.env. Exit codes: 0 accepted, 1 refused, 2 wrong use, 3 no answer.
set -euo pipefail
umask 077 # what is written here names a person

readonly MESSAGE_NAMESPACE=urn:document-gateway:message:1
readonly RECEIPT_ROOT=urn:document-gateway:receipt:1:Receipt
readonly LONGEST_PAUSE_S=300 # when the gateway asks for more, such as a new day, a later run takes over
readonly DSIG=http://www.w3.org/2000/09/xmldsig

say() { printf '%s\n' "$*" >&2; }
wrong_use() { say "$@"; exit 2; }
refused() { say "$@"; exit 1; }

(($# >= 3)) || wrong_use "usage: send.sh REFERENCE RECIPIENT DOCUMENT.pdf [ANNEX.pdf ...]"
reference=$1 recipient_file=$2
shift 2
[[ $reference =~ ^[A-Za-z0-9._-]{1,64}$ && $reference != .* ]] || wrong_use "REFERENCE is 1 to 64 of A-Z a-z 0-9 . _ -"
for name in GATEWAY_NAME SENDER_NUMBER SENDER_CERTIFICATE SENDER_KEY LETTER_CATEGORY LETTER_PURPOSE LETTER_SUBJECT; do
  [[ -n ${!name:-} ]] || wrong_use "$name is not set; see sender.env"
done
kept=${SENT_FOLDER:-sent}/$reference
mkdir -p "$kept"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# ── The recipient. From here on the number goes through standard input only, which no other user can see. ──

if [[ $recipient_file == - ]]; then
  [[ ! -t 0 ]] || say "National or enterprise number, then name:, street: and so on; end with Ctrl-D"
  recipient=$(cat)
else
  [[ -f $recipient_file ]] || wrong_use "RECIPIENT is no file"
  recipient=$(<"$recipient_file")
fi
recipient=${recipient//$'\r'/}
line() { sed -n "s/^$1: *//p" <<<"$recipient"; }

number=${recipient%%$'\n'*}
number=${number//[ .\/-]/}
case $number in
  *[!0-9]* | '') wrong_use "the first line of RECIPIENT must be a number" ;;
  ???????????) number_element=Ssin ;;
  ??????????) number_element=EnterpriseNumber ;;
  *) wrong_use "the number has eleven digits (national) or ten (enterprise)" ;;
esac

# ── The message ──

escaped() { sed -e 's/&/\&amp;/g' -e 's/</\&lt;/g' -e 's/>/\&gt;/g' -e 's/"/\&quot;/g' <<<"$1"; }
element() { printf '<%s>%s</%s>' "$1" "$(escaped "$2")" "$1"; }
optional() { [[ -z $2 ]] || element "$1" "$2"; }

address() {
  [[ -n $(line name) ]] || return 0
  printf '<PostalAddress>'
  element Name "$(line name)"
  element Street "$(line street)"
  element HouseNumber "$(line 'house number')"
  optional Box "$(line box)"
  element Postcode "$(line postcode)"
  element Municipality "$(line municipality)"
  country=$(line country)
  element Country "${country:-BE}"
  printf '</PostalAddress>'
}

documents='' parts=()
for file in "$@"; do
  [[ -s $file && $file != *[\"\\]* ]] || wrong_use "not a file with something in it, or \" or \\ in its path: $file"
  name=${file##*/}
  [[ $name =~ ^[A-Za-z0-9._\ -]+$ ]] || wrong_use "give this file a name of A-Z a-z 0-9 . _ - and spaces: $name"
  part=upfile$((${#parts[@]} / 2 + 1))
  main=false
  [[ $part != upfile1 ]] || main=true
  size=$(wc -c <"$file")
  digest=$(sha256sum <"$file")
  documents+="<Document part=\"$part\" filename=\"$name\" mediaType=\"application/pdf\" size=\"$((size))\""
  documents+=" sha256=\"${digest%% *}\" main=\"$main\"/>"
  parts+=(--form "$part=@\"$file\";type=application/pdf;filename=\"$name\"")
done

# KeyInfo holds the signing certificate alone: the first of the file, without those that issued it.
certificate=$(openssl x509 -in "$SENDER_CERTIFICATE" -outform DER | openssl base64 -A)
details=$(openssl x509 -in "$SENDER_CERTIFICATE" -noout -text)
method=rsa-sha256
[[ $details != *"Public Key Algorithm: id-ecPublicKey"* ]] || method=ecdsa-sha256

# xmlsec1 fills in the two empty elements. Everything else is signed exactly as it stands here, white space included.
cat >"$work/template.xml" <<XML
<?xml version="1.0" encoding="UTF-8"?>
<Message xmlns="$MESSAGE_NAMESPACE" Id="message">
  $(element Gateway "$GATEWAY_NAME")
  $(element Reference "$reference")
  $(element CreatedAt "$(date -u +%Y-%m-%dT%H:%M:%SZ)")
  <Sender>$(element EnterpriseNumber "$SENDER_NUMBER")$(optional Profile "${SENDER_PROFILE:-}")</Sender>
  $(element Category "$LETTER_CATEGORY")
  $(element Purpose "$LETTER_PURPOSE")
  <Recipient>$(element "$number_element" "$number")$(address)</Recipient>
  <Subject lang="${LETTER_LANGUAGE:-nl}">$(escaped "$LETTER_SUBJECT")</Subject>
  <Documents>$documents</Documents>
  <Signature xmlns="$DSIG#">
    <SignedInfo>
      <CanonicalizationMethod Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#"/>
      <SignatureMethod Algorithm="http://www.w3.org/2001/04/xmldsig-more#$method"/>
      <Reference URI="">
        <Transforms>
          <Transform Algorithm="$DSIG#enveloped-signature"/>
          <Transform Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#"/>
        </Transforms>
        <DigestMethod Algorithm="http://www.w3.org/2001/04/xmlenc#sha256"/>
        <DigestValue/>
      </Reference>
    </SignedInfo>
    <SignatureValue/>
    <KeyInfo><X509Data><X509Certificate>$certificate</X509Certificate></X509Data></KeyInfo>
  </Signature>
</Message>
XML
# (key-name: it signs with the key given here, and does not judge the certificate.)
xmlsec1 --sign --enabled-key-data key-name --privkey-pem "$SENDER_KEY" --output "$work/message.xml" "$work/template.xml"

# Kept under its digest, before it leaves: the receipt names the digest of the message that the gateway accepted, which
# after a lost answer may be one that was signed in an earlier run.
digest=$(sha256sum <"$work/message.xml")
message=$kept/${digest%% *}.xml
mv "$work/message.xml" "$message"
if [[ -z ${GATEWAY_URL:-} ]]; then
  say "signed, not sent: $message"
  exit 0
fi

# ── Send it, as often as it takes. The reference makes that safe. ──

send() {
  curl --silent --show-error --http1.1 --tlsv1.3 --proto '=https' \
    --connect-timeout 10 --speed-limit 1 --speed-time 120 --max-time 900 \
    --cacert "$GATEWAY_CA" --cert "$SENDER_CERTIFICATE" --key "$SENDER_KEY" \
    --header 'Accept: application/xml' \
    --form "message=<\"$message\";type=application/xml" "${parts[@]}" \
    --output "$work/answer" --write-out '%{http_code} %header{retry-after}\n' \
    "$GATEWAY_URL/api/v1/messages"
}

for pause_s in 1 2 4 8 16 32 60 0; do
  : >"$work/answer"
  outcome=$(send) || outcome='000 ' # no answer, or a broken one
  read -r status retry_after <<<"$outcome" || true
  case $status in
    200 | 201) break ;;
    000 | 408 | 429 | 500 | 502 | 503 | 504) ;;
    409) grep --quiet still-receiving "$work/answer" || refused "409 $(<"$work/answer")" ;;
    *) refused "$status $(<"$work/answer")" ;; # the same again would be refused again: mend it first
  esac
  say "$status $(<"$work/answer")"
  if ((pause_s > 0)) && [[ ${retry_after:-} =~ ^[1-9][0-9]{0,8}$ ]]; then
    pause_s=$retry_after
  fi
  if ((pause_s == 0 || pause_s > LONGEST_PAUSE_S)); then
    say "no acceptance yet; whether it arrived is unknown: give the same command again later"
    exit 3
  fi
  sleep "$pause_s"
done

# ── The receipt: signed by the gateway, and about a message of ours. ──

# Only the receipt certificate that you were given may verify it; the one inside the receipt proves nothing.
openssl x509 -in "$RECEIPT_CERTIFICATE" -noout -pubkey >"$work/receipts.pub"
xmlsec1 --verify --id-attr:Id "$RECEIPT_ROOT" --enabled-reference-uris empty,same-doc --enabled-key-data key-name \
  --pubkey-pem "$work/receipts.pub" "$work/answer" 2>"$work/verdict" || refused "the receipt's signature is not valid"
receipt=$(<"$work/answer")
fact() { sed -n "s/.*<$1>\([^<]*\)<\/$1>.*/\1/p" <<<"$receipt"; }
[[ $(fact Gateway) == "$GATEWAY_NAME" && $(fact Reference) == "$reference" && $(fact Sender) == "$SENDER_NUMBER" ]] \
  || refused "the receipt is for another letter"
accepted=$(fact MessageSha256)
[[ $accepted =~ ^[0-9a-f]{64}$ && -f $kept/$accepted.xml ]] \
  || refused "the receipt is for a signed message that is not in $kept"
mv "$work/answer" "$kept/receipt.xml"
printf '%s %s\n' "$status" "$(fact MessageId)"
say "accepted; keep $kept"
