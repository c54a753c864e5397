// receipt checks one receipt of a sealward journal with the Go standard library alone.
//
//	receipt [-input FILE] [-output FILE] [-text FILE] [-witness VKEY]... [-threshold K] RECEIPT LOG_VKEY
//
// statement → SHA-256 of its canonical JSON = `cm` of the entry's header → leaf → inclusion proof → root of the checkpoint →
// signatures of the log and of its witnesses. FILEs are the bytes that were sent, that came back, and the visible text.
// Prints one line; exit status 0, or 1 when anything fails.
package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"sort"
	"strconv"
	"strings"
)

type list []string

func (l *list) String() string        { return strings.Join(*l, " ") }
func (l *list) Set(text string) error { *l = append(*l, text); return nil }

func main() {
	var witnesses list
	input := flag.String("input", "", "the bytes of the request's body")
	output := flag.String("output", "", "the bytes of the answer's body")
	text := flag.String("text", "", "the visible text of the answer's first choice")
	threshold := flag.Int("threshold", -1, "how many witnesses must have cosigned (default: all that are named)")
	flag.Var(&witnesses, "witness", "verifier key of a witness")
	flag.Parse()
	if flag.NArg() != 2 {
		flag.Usage()
		os.Exit(2)
	}
	data, err := os.ReadFile(flag.Arg(0))
	if err == nil {
		err = check(data, flag.Arg(1), witnesses, *threshold, *input, *output, *text)
	}
	if err != nil {
		fmt.Println("FAIL", err)
		os.Exit(1)
	}
}

func check(data []byte, logKey string, witnesses []string, threshold int, input, output, text string) error {
	value, err := strict(data)
	if err != nil {
		return err
	}
	parts, _ := value.(map[string]any)
	statement, _ := parts["statement"].(map[string]any)
	encoded, _ := parts["entry"].(string)
	proof, _ := parts["proof"].(string)
	if statement == nil || encoded == "" || proof == "" {
		return errors.New("not a receipt")
	}
	entry, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil {
		return fmt.Errorf("entry: %v", err)
	}
	header, err := headerOf(entry)
	if err != nil {
		return err
	}
	if sum := sha256.Sum256(canonical(statement)); header["cm"] != hex.EncodeToString(sum[:]) {
		return errors.New("the entry commits to another statement")
	}
	origin, index, size, cosigned, err := prove(proof, entry, logKey, witnesses)
	if err != nil {
		return err
	}
	if threshold < 0 {
		threshold = len(witnesses)
	}
	if cosigned < threshold {
		return fmt.Errorf("%d witnesses cosigned, %d needed", cosigned, threshold)
	}
	if err := agrees(statement, header, origin, index); err != nil {
		return err
	}
	for name, file := range map[string]string{"input_sha256": input, "output_sha256": output, "text_sha256": text} {
		if file == "" {
			continue
		}
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		sum, said := sha256.Sum256(content), statement[name]
		if texts, many := said.([]any); many && len(texts) > 0 {
			said = texts[0]
		}
		if said != hex.EncodeToString(sum[:]) {
			return fmt.Errorf("%s is not that of %s", name, file)
		}
	}
	fmt.Printf("OK request %v: %v by %v, entry %d of %d in %s, %d witnesses\n",
		statement["request"], statement["outcome"], statement["subject"], index, size, origin, cosigned)
	return nil
}

// agrees compares what stands twice: in the statement, and in what is signed around it.
func agrees(statement, header map[string]any, origin string, index uint64) error {
	when, _ := statement["time"].(string)
	hour, _ := header["time"].(string)
	of, closes := header["of"].(int64)
	switch {
	case statement["v"] != int64(1):
		return errors.New("another version of the statement")
	case statement["origin"] != origin:
		return errors.New("a statement of another log")
	case len(when) != 27 || when[:13]+":00:00Z" != hour:
		return errors.New("another hour")
	case closes == (statement["outcome"] == "denied"):
		return errors.New("it closes an admission, or does not, against its outcome")
	case closes && (of < 0 || uint64(of) >= index):
		return errors.New("it closes an admission that is not before it")
	}
	return nil
}

// headerOf opens 0x01 ‖ u16be length ‖ header ‖ sealed; the header must be canonical.
func headerOf(entry []byte) (map[string]any, error) {
	if len(entry) < 3 || entry[0] != 1 || len(entry) < 3+int(binary.BigEndian.Uint16(entry[1:])) {
		return nil, errors.New("not an entry")
	}
	raw := entry[3 : 3+int(binary.BigEndian.Uint16(entry[1:]))]
	value, err := strict(raw)
	header, isObject := value.(map[string]any)
	if err != nil || !isObject || !bytes.Equal(canonical(header), raw) {
		return nil, errors.New("the header is not canonical")
	}
	for name := range header {
		if !strings.Contains(" cm kid of time ", " "+name+" ") {
			return nil, fmt.Errorf("the header says %q", name)
		}
	}
	if kid, _ := header["kid"].(string); len(kid) != 18 {
		return nil, errors.New("the header names no key")
	}
	return header, nil
}

// prove follows a .tlog-proof (C2SP) from the entry to a checkpoint, and counts the witnesses that cosigned that.
func prove(text string, entry []byte, logKey string, witnesses []string) (origin string, index, size uint64, cosigned int, err error) {
	head, note, found := strings.Cut(text, "\n\n")
	lines := strings.Split(head, "\n")
	if !found || len(lines) < 2 || lines[0] != "c2sp.org/tlog-proof@v1" {
		return "", 0, 0, 0, errors.New("not a .tlog-proof")
	}
	lines = lines[1:]
	if strings.HasPrefix(lines[0], "extra ") && len(lines) > 1 {
		lines = lines[1:] // nobody signed it
	}
	if index, err = integer(strings.TrimPrefix(lines[0], "index ")); err != nil || !strings.HasPrefix(lines[0], "index ") {
		return "", 0, 0, 0, errors.New("the proof has no index")
	}
	var path [][]byte
	for _, line := range lines[1:] {
		hash, err := base64.StdEncoding.Strict().DecodeString(line)
		if err != nil || len(hash) != 32 {
			return "", 0, 0, 0, errors.New("a hash of the proof is malformed")
		}
		path = append(path, hash)
	}
	origin, size, root, cosigned, err := open(note, logKey, witnesses)
	if err != nil {
		return "", 0, 0, 0, err
	}
	leaf := sha256.Sum256(append([]byte{0}, entry...))
	reached, err := rootOf(index, size, leaf[:], path)
	if err != nil {
		return "", 0, 0, 0, err
	}
	if !bytes.Equal(reached, root) {
		return "", 0, 0, 0, errors.New("the proof leads to another root")
	}
	return origin, index, size, cosigned, nil
}

// rootOf is RFC 9162, 2.1.3.2.
func rootOf(index, size uint64, hash []byte, path [][]byte) ([]byte, error) {
	if index >= size {
		return nil, errors.New("the entry is not under the checkpoint")
	}
	node, last := index, size-1
	for _, sibling := range path {
		if last == 0 {
			return nil, errors.New("the proof is too long")
		}
		if node&1 == 1 || node == last {
			hash = join(sibling, hash)
			for node&1 == 0 && node != 0 {
				node, last = node>>1, last>>1
			}
		} else {
			hash = join(hash, sibling)
		}
		node, last = node>>1, last>>1
	}
	if last != 0 {
		return nil, errors.New("the proof is too short")
	}
	return hash, nil
}

func join(left, right []byte) []byte {
	sum := sha256.Sum256(append(append([]byte{1}, left...), right...))
	return sum[:]
}

// open checks a signed checkpoint (C2SP signed-note): the log must have signed it; a known key that fails refuses it.
func open(note, logKey string, witnesses []string) (origin string, size uint64, root []byte, cosigned int, err error) {
	fail := func(words string) (string, uint64, []byte, int, error) {
		return "", 0, nil, 0, errors.New("checkpoint: " + words)
	}
	cut := strings.LastIndex(note, "\n\n")
	if cut < 0 || !strings.HasSuffix(note, "\n") || strings.ContainsAny(note, "\r\t\x00") {
		return fail("not a signed note")
	}
	text := note[:cut+1]
	lines := strings.Split(text, "\n")
	if len(lines) < 4 {
		return fail("fewer than three lines")
	}
	log, err := newKey(logKey, 1)
	if err != nil {
		return fail(err.Error())
	}
	keys := []key{log}
	for _, each := range witnesses {
		witness, err := newKey(each, 4)
		if err != nil {
			return fail(err.Error())
		}
		keys = append(keys, witness)
	}
	signed := map[string]bool{}
	for _, line := range strings.Split(strings.TrimSuffix(note[cut+2:], "\n"), "\n") {
		words := strings.Split(line, " ")
		if len(words) != 3 || words[0] != "—" {
			return fail("a malformed signature line")
		}
		blob, err := base64.StdEncoding.Strict().DecodeString(words[2])
		if err != nil || len(blob) < 5 {
			return fail("a malformed signature")
		}
		for _, each := range keys {
			if each.name == words[1] && bytes.Equal(each.id, blob[:4]) {
				if !each.verifies(text, blob[4:]) {
					return fail("the signature of " + each.name + " does not verify")
				}
				signed[each.name] = true
			}
		}
	}
	if !signed[log.name] || lines[0] != log.name {
		return fail("the log did not sign it")
	}
	if size, err = integer(lines[1]); err != nil {
		return fail("size")
	}
	if root, err = base64.StdEncoding.Strict().DecodeString(lines[2]); err != nil || len(root) != 32 {
		return fail("root")
	}
	return log.name, size, root, len(signed) - 1, nil
}

type key struct {
	name   string
	id     []byte
	kind   byte
	public ed25519.PublicKey
}

// newKey reads a verifier key: name+hex id+base64(type ‖ key); type 1 signs notes, 4 cosigns them.
func newKey(text string, kind byte) (key, error) {
	parts := strings.SplitN(strings.TrimSpace(text), "+", 3)
	if len(parts) != 3 {
		return key{}, fmt.Errorf("%q is no verifier key", text)
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(parts[2])
	if err != nil || len(raw) != 1+ed25519.PublicKeySize || raw[0] != kind {
		return key{}, fmt.Errorf("%q is no Ed25519 key of type %d", text, kind)
	}
	sum := sha256.Sum256(append([]byte(parts[0]+"\n"), raw...))
	if hex.EncodeToString(sum[:4]) != parts[1] {
		return key{}, fmt.Errorf("the id in %q is not that of the key", text)
	}
	return key{parts[0], sum[:4], kind, raw[1:]}, nil
}

func (k key) verifies(text string, sig []byte) bool {
	if k.kind == 4 {
		if len(sig) != 8+ed25519.SignatureSize {
			return false
		}
		text = fmt.Sprintf("cosignature/v1\ntime %d\n%s", binary.BigEndian.Uint64(sig), text)
		sig = sig[8:]
	}
	return ed25519.Verify(k.public, []byte(text), sig)
}

func integer(text string) (uint64, error) {
	n, err := strconv.ParseUint(text, 10, 63)
	if err == nil && strconv.FormatUint(n, 10) != text {
		err = errors.New("another spelling of " + text)
	}
	return n, err
}

// strict reads one JSON value without what two parsers read differently: a name twice, null, floats, something behind it.
func strict(data []byte) (any, error) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	value, err := next(decoder)
	if err != nil {
		return nil, fmt.Errorf("JSON: %v", err)
	}
	if _, err := decoder.Token(); err != io.EOF {
		return nil, errors.New("JSON: something behind the value")
	}
	return value, nil
}

func next(decoder *json.Decoder) (any, error) {
	token, err := decoder.Token()
	if err != nil {
		return nil, err
	}
	switch token := token.(type) {
	case string, bool:
		return token, nil
	case json.Number:
		return strconv.ParseInt(token.String(), 10, 54)
	case json.Delim:
		if token == '[' {
			found := []any{}
			for decoder.More() {
				each, err := next(decoder)
				if err != nil {
					return nil, err
				}
				found = append(found, each)
			}
			_, err := decoder.Token()
			return found, err
		}
		found := map[string]any{}
		for decoder.More() {
			name, err := decoder.Token()
			if err != nil {
				return nil, err
			}
			if _, twice := found[name.(string)]; twice {
				return nil, fmt.Errorf("%q twice", name)
			}
			if found[name.(string)], err = next(decoder); err != nil {
				return nil, err
			}
		}
		_, err := decoder.Token()
		return found, err
	}
	return nil, errors.New("null")
}

// canonical is RFC 8785 for values without floats and with names in ASCII.
func canonical(value any) []byte {
	var out bytes.Buffer
	write(&out, value)
	return out.Bytes()
}

func write(out *bytes.Buffer, value any) {
	switch value := value.(type) {
	case string:
		quote(out, value)
	case []any:
		out.WriteByte('[')
		for i, each := range value {
			if i > 0 {
				out.WriteByte(',')
			}
			write(out, each)
		}
		out.WriteByte(']')
	case map[string]any:
		names := make([]string, 0, len(value))
		for name := range value {
			names = append(names, name)
		}
		sort.Strings(names)
		out.WriteByte('{')
		for i, name := range names {
			if i > 0 {
				out.WriteByte(',')
			}
			quote(out, name)
			out.WriteByte(':')
			write(out, value[name])
		}
		out.WriteByte('}')
	default:
		fmt.Fprint(out, value)
	}
}

func quote(out *bytes.Buffer, text string) {
	out.WriteByte('"')
	for _, char := range text {
		short := strings.IndexRune("\"\\\b\f\n\r\t", char)
		switch {
		case short >= 0:
			out.WriteString(`\` + `"\bfnrt`[short:short+1])
		case char < 0x20:
			fmt.Fprintf(out, `\u%04x`, char)
		default:
			out.WriteRune(char)
		}
	}
	out.WriteByte('"')
}
