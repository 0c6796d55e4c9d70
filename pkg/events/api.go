// SPDX-License-Identifier: Apache-2.0

package events

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path"
	"slices"
	"time"
)

// Server says where the API server is, and what proves who asks.
type Server struct {
	// URL is the server's, such as https://10.96.0.1:443.
	URL string
	// TokenFile holds a bearer token, CAFile the certificates that the server's is
	// judged by. Both are read for each request, since the kubelet replaces them.
	TokenFile, CAFile string
}

// secrets is where the kubelet puts a service account's token (k8s.io/kubernetes
// plugin/pkg/admission/serviceaccount, DefaultAPITokenMountPath).
const secrets = "/var/run/secrets/kubernetes.io/serviceaccount" // #nosec G101 -- a path

// InCluster is the server of the cluster that this process is a pod of, by its
// environment.
func InCluster(lookupEnv func(string) (string, bool)) (Server, error) {
	host, _ := lookupEnv("KUBERNETES_SERVICE_HOST")
	port, _ := lookupEnv("KUBERNETES_SERVICE_PORT")
	if host == "" || port == "" {
		return Server{}, errors.New("find the API server: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set; Events need a neighpin that runs as a pod")
	}
	return Server{
		URL:       "https://" + net.JoinHostPort(host, port),
		TokenFile: path.Join(secrets, "token"), CAFile: path.Join(secrets, "ca.crt"),
	}, nil
}

const (
	// requestTimeout bounds one request.
	requestTimeout = 10 * time.Second
	// maxAnswer bounds what is read of an answer, in bytes.
	maxAnswer = 64 << 10
)

// object is an Event of the core group, as far as it is ours
// (k8s.io/api/core/v1, Event).
type object struct {
	APIVersion     string    `json:"apiVersion"`
	Kind           string    `json:"kind"`
	Metadata       metadata  `json:"metadata"`
	InvolvedObject reference `json:"involvedObject"`
	Reason         Reason    `json:"reason"`
	Message        string    `json:"message"`
	Source         source    `json:"source"`
	FirstTimestamp time.Time `json:"firstTimestamp"`
	LastTimestamp  time.Time `json:"lastTimestamp"`
	Count          int       `json:"count"`
	Type           string    `json:"type"`
	// The same as Source, for readers of the newer group.
	ReportingComponent string `json:"reportingComponent"`
	ReportingInstance  string `json:"reportingInstance"`
}

type metadata struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
}

type reference struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Namespace  string `json:"namespace"`
	Name       string `json:"name"`
	UID        string `json:"uid"`
}

type source struct {
	Component string `json:"component"`
	Host      string `json:"host"`
}

// again is what a repetition changes of an Event.
type again struct {
	Message       string    `json:"message"`
	LastTimestamp time.Time `json:"lastTimestamp"`
	Count         int       `json:"count"`
}

// answerError is an answer of the API server that is no success.
type answerError struct {
	code    int
	message string
	ending  bool // the namespace is being removed
}

// Error is the server's own sentence, and what to do about it where that is known.
func (e *answerError) Error() string {
	text := fmt.Sprintf("API server answers %d: %s", e.code, e.message)
	switch e.code {
	case http.StatusUnauthorized:
		text += " (is the service account's token mounted?)"
	case http.StatusForbidden:
		text += " (the service account needs create and patch for events)"
	}
	return text
}

// client makes the two requests. One goroutine uses it.
type client struct {
	server  Server
	timeout time.Duration // requestTimeout
	ca      []byte
	http    *http.Client
}

// create makes an Event.
func (c *client) create(ctx context.Context, event object) error {
	return c.send(ctx, http.MethodPost, "application/json", event, event.Metadata.Namespace)
}

// repeat counts an Event that is there up.
func (c *client) repeat(ctx context.Context, namespace, name string, change again) error {
	return c.send(ctx, http.MethodPatch, "application/merge-patch+json", change, namespace, name)
}

func (c *client) send(ctx context.Context, method, media string, body any, namespace string, name ...string) error {
	token, err := os.ReadFile(c.server.TokenFile)
	if err != nil {
		return fmt.Errorf("read the service account's token (is automountServiceAccountToken true?): %w", err)
	}
	if err := c.trust(); err != nil {
		return err
	}
	data, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("encode Event: %w", err)
	}
	target := c.server.URL + "/api/v1/namespaces/" + url.PathEscape(namespace) + "/events"
	for _, element := range name {
		target += "/" + url.PathEscape(element)
	}
	request, err := http.NewRequestWithContext(ctx, method, target, bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("ask API server: %w", err)
	}
	request.Header.Set("Authorization", "Bearer "+string(bytes.TrimSpace(token)))
	request.Header.Set("Content-Type", media)
	request.Header.Set("Accept", "application/json")
	request.Header.Set("User-Agent", component)
	response, err := c.http.Do(request)
	if err != nil {
		// Over a connection whose other side is gone HTTP/2 would ask again and again,
		// until the kernel gives it up after a quarter of an hour.
		c.close()
		return fmt.Errorf("ask API server: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("read API server's answer: %w", err)
	}
	if response.StatusCode/100 != 2 {
		return refusal(response.StatusCode, answer)
	}
	return nil
}

// refusal reads why the server would not (k8s.io/apimachinery meta/v1, Status).
func refusal(code int, answer []byte) error {
	var status struct {
		Message string `json:"message"`
		Details struct {
			Causes []struct {
				Reason string `json:"reason"`
			} `json:"causes"`
		} `json:"details"`
	}
	refused := &answerError{code: code, message: http.StatusText(code)}
	if json.Unmarshal(answer, &status) == nil && status.Message != "" {
		refused.message = clean(status.Message, maxMessage)
	}
	for _, cause := range status.Details.Causes {
		refused.ending = refused.ending || cause.Reason == "NamespaceTerminating"
	}
	return refused
}

// trust makes the connections rest on the certificates that the file has now.
func (c *client) trust() error {
	ca, err := os.ReadFile(c.server.CAFile)
	if err != nil {
		return fmt.Errorf("read the API server's certificate authority: %w", err)
	}
	if c.http != nil && slices.Equal(ca, c.ca) {
		return nil
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return fmt.Errorf("read the API server's certificate authority: %s holds no certificate", c.server.CAFile)
	}
	c.close()
	c.ca = ca
	c.http = &http.Client{
		Timeout: c.timeout,
		// The token is for this server and no other.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			ForceAttemptHTTP2: true, IdleConnTimeout: time.Minute,
			TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12},
		},
	}
	return nil
}

// close lets go of the connections; the next request makes others.
func (c *client) close() {
	if c.http != nil {
		c.http.CloseIdleConnections()
		c.http = nil
	}
}
