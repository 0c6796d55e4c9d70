// SPDX-License-Identifier: Apache-2.0

package web

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// calledBy serves requests to one of the host's addresses, to localhost, or to one of
// its names. A web page elsewhere can have its own name lead to an address that the
// reader's browser reaches (DNS rebinding), and would then be let to read the answer;
// the name is in the request, and no page can lead by an address.
func calledBy(names []string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !known(r.Host, names) {
			http.Error(w, "this is not served under that name; ask by an IP address, localhost, or the node's name", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// known tells whether a request's Host names this host: none is for clients that are no
// browser.
func known(host string, names []string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.Trim(host, "[]"), ".")
	if _, err := netip.ParseAddr(host); err == nil || host == "" || strings.EqualFold(host, "localhost") {
		return true
	}
	return slices.ContainsFunc(names, func(name string) bool { return name != "" && strings.EqualFold(host, name) })
}
