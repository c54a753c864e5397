// verify checks the public files of a sealward journal (a C2SP tlog-tiles log) without any code of sealward's.
//
//	verify [-threshold K] [-ca FILE] DIR|URL LOG_VKEY [WITNESS_VKEY...]
//
// Every entry is hashed again; every tile, the root and the signatures are compared. Hashing and signed notes are those of
// golang.org/x/mod/sumdb; cosignatures (C2SP tlog-cosignature) are checked here. Over HTTPS the bearer credential comes from
// the environment (AUDITOR_KEY), never from the command line. Prints one line; exit status 0, or 1 when anything fails.
package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func main() {
	threshold := flag.Int("threshold", -1, "how many witnesses must have cosigned (default: all that are named)")
	ca := flag.String("ca", "", "PEM file of the CA of URL")
	flag.Parse()
	if flag.NArg() < 2 {
		flag.Usage()
		os.Exit(2)
	}
	read, err := reader(flag.Arg(0), *ca)
	if err == nil {
		err = run(read, flag.Arg(1), flag.Args()[2:], *threshold)
	}
	if err != nil {
		fmt.Println("FAIL", err)
		os.Exit(1)
	}
}

type readFunc func(name string) ([]byte, error)

// run verifies everything that can be said about the public files.
func run(read readFunc, logKey string, witnessKeys []string, threshold int) error {
	log, err := note.NewVerifier(logKey)
	if err != nil {
		return err
	}
	keys := []note.Verifier{log}
	for _, text := range witnessKeys {
		key, err := newWitness(text)
		if err != nil {
			return err
		}
		keys = append(keys, key)
	}
	data, err := read("checkpoint")
	if err != nil {
		return err
	}
	signed, err := note.Open(data, note.VerifierList(keys...))
	if err != nil {
		return fmt.Errorf("checkpoint: %v", err)
	}
	byLog, witnesses := false, 0
	for _, sig := range signed.Sigs {
		if sig.Name == log.Name() && sig.Hash == log.KeyHash() {
			byLog = true
		} else {
			witnesses++
		}
	}
	if !byLog {
		return fmt.Errorf("checkpoint: the log did not sign it")
	}
	if threshold < 0 {
		threshold = len(witnessKeys)
	}
	if witnesses < threshold {
		return fmt.Errorf("checkpoint: %d of %d witnesses cosigned, %d needed", witnesses, len(witnessKeys), threshold)
	}
	size, root, err := checkpoint(signed.Text, log.Name())
	if err != nil {
		return err
	}
	hashes, err := entries(read, size)
	if err != nil {
		return err
	}
	if err := compare(read, size, root, hashes); err != nil {
		return err
	}
	fmt.Printf("OK %s, %d entries, %d witnesses\n", log.Name(), size, witnesses)
	return nil
}

// checkpoint parses a note's text strictly: a size and a root have one spelling.
func checkpoint(text, origin string) (int64, tlog.Hash, error) {
	var root tlog.Hash
	lines := strings.Split(text, "\n")
	if len(lines) < 4 || lines[0] != origin {
		return 0, root, fmt.Errorf("checkpoint: not one of %s", origin)
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || size < 0 || strconv.FormatInt(size, 10) != lines[1] {
		return 0, root, fmt.Errorf("checkpoint: size %q", lines[1])
	}
	raw, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil || len(raw) != len(root) || base64.StdEncoding.EncodeToString(raw) != lines[2] {
		return 0, root, fmt.Errorf("checkpoint: root %q", lines[2])
	}
	copy(root[:], raw)
	return size, root, nil
}

// store holds the hashes of a growing tree by x/mod's storage index.
type store []tlog.Hash

func (s *store) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		if index >= int64(len(*s)) {
			return nil, fmt.Errorf("hash %d is not there", index)
		}
		out[i] = (*s)[index]
	}
	return out, nil
}

// entries hashes every entry of the log; no tile is believed.
func entries(read readFunc, size int64) (*store, error) {
	hashes := &store{}
	for first := int64(0); first < size; first += 256 {
		count := size - first
		if count > 256 {
			count = 256
		}
		data, exact, err := full(read, "tile/entries/"+number(first/256), count)
		if err != nil {
			return nil, err
		}
		for i := int64(0); i < count; i++ {
			if len(data) < 2 || len(data) < 2+int(binary.BigEndian.Uint16(data)) {
				return nil, fmt.Errorf("entry %d: the bundle is short", first+i)
			}
			end := 2 + int(binary.BigEndian.Uint16(data))
			more, err := tlog.StoredHashesForRecordHash(first+i, tlog.RecordHash(data[2:end]), hashes)
			if err != nil {
				return nil, err
			}
			*hashes = append(*hashes, more...)
			data = data[end:]
		}
		if exact && len(data) > 0 {
			return nil, fmt.Errorf("bundle %d has trailing bytes", first/256)
		}
	}
	return hashes, nil
}

// compare checks root and tiles against the entries' hashes.
func compare(read readFunc, size int64, root tlog.Hash, hashes *store) error {
	for level := 0; size>>(8*level) > 0; level++ {
		count := size >> (8 * level)
		for n := int64(0); n*256 < count; n++ {
			width := count - n*256
			if width > 256 {
				width = 256
			}
			want, err := tlog.ReadTileData(tlog.Tile{H: 8, L: level, N: n, W: int(width)}, hashes)
			if err != nil {
				return err
			}
			got, exact, err := full(read, fmt.Sprintf("tile/%d/%s", level, number(n)), width)
			if err != nil {
				return err
			}
			if !bytes.HasPrefix(got, want) || (exact && len(got) != len(want)) {
				return fmt.Errorf("tile/%d/%s does not hold the hashes of the entries", level, number(n))
			}
		}
	}
	found := tlog.Hash(sha256.Sum256(nil))
	if size > 0 {
		var err error
		if found, err = tlog.TreeHash(size, hashes); err != nil {
			return err
		}
	}
	if found != root {
		return fmt.Errorf("the entries do not hash to the signed root")
	}
	return nil
}

// full reads a tile of `width`, and says whether it is exactly that: a full one may have taken the place of a partial one.
func full(read readFunc, name string, width int64) ([]byte, bool, error) {
	if width < 256 {
		if data, err := read(fmt.Sprintf("%s.p/%d", name, width)); err == nil {
			return data, true, nil
		}
	}
	data, err := read(name)
	return data, width == 256, err
}

func number(n int64) string {
	out := fmt.Sprintf("%03d", n%1000)
	for n >= 1000 {
		n /= 1000
		out = fmt.Sprintf("x%03d/%s", n%1000, out)
	}
	return out
}

// witness is an Ed25519 cosignature key (C2SP tlog-cosignature, type 04).
type witness struct {
	name string
	id   uint32
	key  ed25519.PublicKey
}

func newWitness(text string) (note.Verifier, error) {
	parts := strings.SplitN(text, "+", 3)
	if len(parts) != 3 {
		return nil, fmt.Errorf("%q is no verifier key", text)
	}
	raw, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || len(raw) != 1+ed25519.PublicKeySize || raw[0] != 4 {
		return nil, fmt.Errorf("%q is no Ed25519 cosignature key", text)
	}
	sum := sha256.Sum256(append([]byte(parts[0]+"\n"), raw...))
	if fmt.Sprintf("%x", sum[:4]) != parts[1] {
		return nil, fmt.Errorf("the id in %q is not that of the key", text)
	}
	return witness{parts[0], binary.BigEndian.Uint32(sum[:4]), raw[1:]}, nil
}

func (w witness) Name() string    { return w.name }
func (w witness) KeyHash() uint32 { return w.id }
func (w witness) Verify(text, sig []byte) bool {
	if len(sig) != 8+ed25519.SignatureSize {
		return false
	}
	message := fmt.Sprintf("cosignature/v1\ntime %d\n%s", binary.BigEndian.Uint64(sig), text)
	return ed25519.Verify(w.key, []byte(message), sig[8:])
}

// reader reads from a folder or from a server.
func reader(place, ca string) (readFunc, error) {
	if !strings.HasPrefix(place, "https://") {
		return func(name string) ([]byte, error) { return os.ReadFile(filepath.Join(place, name)) }, nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS13}
	if ca != "" {
		data, err := os.ReadFile(ca)
		if err != nil {
			return nil, err
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(data) {
			return nil, fmt.Errorf("%s holds no certificate", ca)
		}
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: config}}
	return func(name string) ([]byte, error) {
		request, err := http.NewRequest("GET", strings.TrimSuffix(place, "/")+"/"+name, nil)
		if err != nil {
			return nil, err
		}
		request.Header.Set("Authorization", "Bearer "+os.Getenv("AUDITOR_KEY"))
		response, err := client.Do(request)
		if err != nil {
			return nil, err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("%s: %s", name, response.Status)
		}
		return io.ReadAll(io.LimitReader(response.Body, 32<<20))
	}, nil
}
