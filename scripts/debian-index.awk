# Stanzas of a Debian package index to JSON lines: {"key":"debian/NAME/VERSION/ARCHITECTURE","value":STANZA}, the first of each
# key only. A stanza that is not UTF-8 stands in base64 under "value_base64". Expects LC_ALL=C: characters are bytes.

BEGIN {
    RS = ""
    for (byte = 1; byte < 256; byte++) {
        ordinal[sprintf("%c", byte)] = byte
    }
    digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
}

{
    key = "debian/" field("Package") "/" field("Version") "/" field("Architecture")
    if (!(key in seen)) {
        seen[key] = 1
        if (is_utf8($0)) {
            print "{\"key\":\"" escaped(key) "\",\"value\":\"" escaped($0) "\"}"
        } else {
            print "{\"key\":\"" escaped(key) "\",\"value_base64\":\"" base64($0) "\"}"
        }
    }
}

# A field's value, without what does not belong into a key.
function field(name,    text, start, end) {
    text = "\n" $0 "\n"
    start = index(text, "\n" name ": ")
    if (!start) {
        return ""
    }
    text = substr(text, start + length(name) + 3)
    end = index(text, "\n")
    text = substr(text, 1, end - 1)
    gsub(/[^!-~]/, "", text)
    return text
}

# RFC 3629: what is left when every well-formed sequence is taken out must be ASCII.
function is_utf8(text) {
    if (text !~ /[\200-\377]/) {
        return 1
    }
    gsub(/[\302-\337][\200-\277]|\340[\240-\277][\200-\277]|[\341-\354\356\357][\200-\277][\200-\277]|\355[\200-\237][\200-\277]|\360[\220-\277][\200-\277][\200-\277]|[\361-\363][\200-\277][\200-\277][\200-\277]|\364[\200-\217][\200-\277][\200-\277]/, "", text)
    return text !~ /[\200-\377]/
}

# RFC 8259 §7: quotes, backslashes and control characters are escaped.
function escaped(text,    result, place, c) {
    gsub(/\\/, "&&", text)
    gsub(/"/, "\\\\&", text)
    gsub(/\n/, "\\n", text)
    gsub(/\t/, "\\t", text)
    gsub(/\r/, "\\r", text)
    if (text !~ /[\001-\037]/) {
        return text
    }
    for (place = 1; place <= length(text); place++) {
        c = substr(text, place, 1)
        result = result (ordinal[c] < 32 ? sprintf("\\u%04x", ordinal[c]) : c)
    }
    return result
}

# RFC 4648 §4.
function base64(text,    result, place, bits, have) {
    for (place = 1; place <= length(text); place += 3) {
        have = length(text) - place + 1
        bits = at(text, place) * 65536 + at(text, place + 1) * 256 + at(text, place + 2)
        result = result digit(int(bits / 262144)) digit(int(bits / 4096) % 64) \
            (have > 1 ? digit(int(bits / 64) % 64) : "=") (have > 2 ? digit(bits % 64) : "=")
    }
    return result
}

function at(text, place) {
    return place > length(text) ? 0 : ordinal[substr(text, place, 1)]
}

function digit(value) {
    return substr(digits, value + 1, 1)
}
