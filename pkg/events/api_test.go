// SPDX-License-Identifier: Apache-2.0

package events

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// newClient is one that a test asks by.
func newClient(t *testing.T, server Server) *client {
	t.Helper()
	c := &client{server: server, timeout: time.Minute}
	t.Cleanup(c.close)
	return c
}

// shopEvent is an Event that the server takes.
func shopEvent(name string) object {
	return object{APIVersion: "v1", Kind: "Event", Metadata: metadata{Name: name, Namespace: "shop"}, InvolvedObject: reference{Namespace: "shop"}}
}

func TestTheServerIsTheOneOfThePodsEnvironment(t *testing.T) {
	for _, c := range []struct{ host, port, url string }{
		{"10.96.0.1", "443", "https://10.96.0.1:443"},
		{"fd00::1", "6443", "https://[fd00::1]:6443"},
		{"", "443", ""},
		{"10.96.0.1", "", ""},
		{"", "", ""},
	} {
		env := map[string]string{"KUBERNETES_SERVICE_HOST": c.host, "KUBERNETES_SERVICE_PORT": c.port}
		server, err := InCluster(func(key string) (string, bool) { value := env[key]; return value, value != "" })
		if (err == nil) != (c.url != "") || server.URL != c.url {
			t.Errorf("%q, %q: %+v, %v", c.host, c.port, server, err)
		}
		if err == nil && (server.TokenFile != "/var/run/secrets/kubernetes.io/serviceaccount/token" || server.CAFile != "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt") {
			t.Errorf("%+v", server)
		}
		if err != nil && !strings.Contains(err.Error(), "KUBERNETES_SERVICE_HOST") {
			t.Errorf("%v", err)
		}
	}
}

// What the server says of itself is for a log: whatever it is, it is one line, and says what to do where that is known.
func TestWhatAnAnswerMeans(t *testing.T) {
	server := newAPIServer(t)
	c := newClient(t, server.address())
	for _, a := range []struct {
		code       int
		body, want string
	}{
		{code: http.StatusOK}, {code: http.StatusCreated}, {code: http.StatusAccepted},
		{http.StatusForbidden, `{"message":"events is forbidden"}`, "API server answers 403: events is forbidden (the service account needs create and patch for events)"},
		{http.StatusUnauthorized, `{"message":"Unauthorized"}`, "API server answers 401: Unauthorized (is the service account's token mounted?)"},
		{http.StatusBadGateway, "<html>no luck</html>", "API server answers 502: Bad Gateway"},
		{http.StatusServiceUnavailable, "{}", "API server answers 503: Service Unavailable"},
		{http.StatusConflict, `{"message":"a\nb"}`, "API server answers 409: a b"},
	} {
		server.responds(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(a.code)
			_, _ = w.Write([]byte(a.body))
		})
		got := ""
		if err := c.create(t.Context(), shopEvent("a")); err != nil {
			got = err.Error()
		}
		if got != a.want {
			t.Errorf("%d %s: %q, want %q", a.code, a.body, got, a.want)
		}
	}
	for body, want := range map[string]bool{
		`{"details":{"causes":[{"reason":"NamespaceTerminating"},{"reason":"Other"}]}}`: true,
		`{"details":{"causes":[{"reason":"Other"}]}}`:                                   false,
		`{}`: false,
	} {
		var refused *answerError
		if err := refusal(http.StatusForbidden, []byte(body)); !errors.As(err, &refused) || refused.ending != want {
			t.Errorf("%s: %v; the namespace ends: want %t", body, err, want)
		}
	}
}

// The token is for one server, whatever that says.
func TestTheTokenIsShownToNoOtherServer(t *testing.T) {
	server, other := newAPIServer(t), newAPIServer(t)
	server.responds(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.http.URL+r.URL.Path, http.StatusTemporaryRedirect)
	})
	if err := newClient(t, server.address()).create(t.Context(), shopEvent("a")); err == nil || !strings.Contains(err.Error(), "307") {
		t.Errorf("error %v", err)
	}
	if other.asked() != 0 {
		t.Error("the other one was asked")
	}
}

// Of an answer that does not end, as much is read as can matter.
func TestAnAnswerWithoutEndHoldsNobodyUp(t *testing.T) {
	server, ended := newAPIServer(t), make(chan struct{})
	server.responds(func(w http.ResponseWriter, _ *http.Request) {
		defer close(ended)
		line := bytes.Repeat([]byte("x"), 4096)
		for err := error(nil); err == nil; {
			_, err = w.Write(line)
		}
	})
	c := newClient(t, server.address())
	if err := c.create(t.Context(), shopEvent("a")); err != nil {
		t.Error(err)
	}
	select {
	case <-ended:
	case <-time.After(c.timeout / 2):
		t.Error("the server goes on")
	}
}

func TestOneConnectionServesAllEventsAndEndsWithTheRecorder(t *testing.T) {
	server := newAPIServer(t)
	d := newDesk(t, server.address())
	d.Start()
	for i := range 3 {
		d.Report(staleEvent(web(i), "2"))
		d.outcome(t, Sent)
	}
	d.Close()
	server.closed(t)
	if n := server.made.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// authority is some other one's certificate.
func authority(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// Certificates are replaced while neighpin runs: a connection that rests on those from before ends.
func TestTheServerIsJudgedByTheCertificatesThatTheFileHasNow(t *testing.T) {
	server := newAPIServer(t)
	address := server.address()
	c := newClient(t, address)
	good, err := os.ReadFile(address.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(words string) {
		t.Helper()
		err := c.create(t.Context(), shopEvent(time.Now().Format(time.RFC3339Nano)))
		if (err == nil) != (words == "") || err != nil && !strings.Contains(err.Error(), words) {
			t.Errorf("error %v, want %q", err, words)
		}
	}
	replace := func(ca []byte) {
		t.Helper()
		next := filepath.Join(filepath.Dir(address.CAFile), "next")
		if err := os.WriteFile(next, ca, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, address.CAFile); err != nil {
			t.Fatal(err)
		}
	}
	ask("")
	replace(authority(t))
	ask("unknown authority")
	server.closed(t) // the new one, and
	server.closed(t) // the one from before
	replace([]byte("nonsense"))
	ask("holds no certificate")
	replace(good)
	ask("")
	if err := os.Remove(address.CAFile); err != nil {
		t.Fatal(err)
	}
	ask("certificate authority")
}
