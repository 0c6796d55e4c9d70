// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"strings"
	"testing"

	containers "github.com/containerd/containerd/api/services/containers/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// begun is when the sandboxes of these tests were.
var begun = &timestamppb.Timestamp{Seconds: 1_790_000_000}

func sandboxWith(meta string) *types.Sandbox {
	return &types.Sandbox{
		SandboxID:  "4f3a",
		Runtime:    &types.Sandbox_Runtime{Name: "io.containerd.runsc.v1"},
		CreatedAt:  begun,
		Extensions: map[string]*anypb.Any{metadataExtension: {Value: []byte(meta)}},
	}
}

func TestARecordIsDecodedAtEveryMomentOfItsPod(t *testing.T) {
	const config = `"Config":{"metadata":{"name":"web","uid":"u1","namespace":"shop"},"annotations":{"neighpin.io/pin":"true"}}`
	base := Record{
		ID: "4f3a", Runtime: "io.containerd.runsc.v1", Name: "web", Namespace: "shop", UID: "u1",
		Annotations: map[string]string{"neighpin.io/pin": "true"}, Handler: "runsc",
		Created: begun.AsTime(), Stored: true,
	}
	created := base
	withPath := base
	withPath.NetNSPath = "/var/run/netns/cni-1"
	ready := withPath
	ready.NetworkReady = true
	host := Record{ID: "4f3a", Runtime: "io.containerd.runsc.v1", HostNetwork: true, Created: begun.AsTime(), Stored: true}

	for name, tc := range map[string]struct {
		meta string
		want Record
	}{
		"created, no namespace yet": {`{"Version":"v1","Metadata":{"ID":"4f3a",` + config + `,"RuntimeHandler":"runsc","CNIResult":null}}`, created},
		"namespace made, CNI at work": {
			`{"Version":"v1","Metadata":{"ID":"4f3a",` + config + `,"NetNSPath":"/var/run/netns/cni-1","RuntimeHandler":"runsc","CNIResult":null}}`, withPath,
		},
		"CNI finished": {
			`{"Version":"v1","Metadata":{"ID":"4f3a",` + config + `,"NetNSPath":"/var/run/netns/cni-1","RuntimeHandler":"runsc","CNIResult":{"Interfaces":{}}}}`, ready,
		},
		"host network": {
			`{"Version":"v1","Metadata":{"ID":"4f3a","Config":{"linux":{"security_context":{"namespace_options":{"network":2}}}}}}`, host,
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := decode(sandboxWith(tc.meta))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("record (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDecodeRefusesWhatItDoesNotKnow(t *testing.T) {
	for name, meta := range map[string]string{
		"no JSON":          `metadata`,
		"cut in half":      `{"Version":"v1","Metadata":{"ID":"4f`,
		"another version":  `{"Version":"v2","Metadata":{}}`,
		"wrong type":       `{"Version":"v1","Metadata":{"NetNSPath":7}}`,
		"no version":       `{}`,
		"an empty message": ``,
	} {
		t.Run(name, func(t *testing.T) {
			_, err := decode(sandboxWith(meta))
			if err == nil {
				t.Fatal("no error")
			}
			if !strings.Contains(err.Error(), `"4f3a"`) {
				t.Errorf("error %q does not name the sandbox", err)
			}
		})
	}
}

func TestDecodeRecordOfAnotherClient(t *testing.T) {
	got, err := decode(&types.Sandbox{SandboxID: "x"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Record{ID: "x", Stored: true}, got); diff != "" {
		t.Errorf("a record without CRI metadata claims (-want +got):\n%s", diff)
	}
}

// FuzzDecode: whatever a store holds, decoding ends in a record or an error and
// never claims a finished network that the record does not name. The pause
// container's record, which is all that containerd 1.7 has, is read the same way.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"Version":"v1","Metadata":{"ID":"a","NetNSPath":"/p","CNIResult":{}}}`))
	f.Add([]byte(`{"Version":"v1","Metadata":{"CNIResult":null}}`))
	f.Add([]byte(`{"Version":"v1","Metadata":{"RuntimeHandler":"runsc","Config":{"metadata":{"name":"\u0000"},"annotations":{"a":"b"},"linux":{"security_context":{"namespace_options":{"network":2}}}}}}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, meta []byte) {
		rec, err := decode(sandboxWith(string(meta)))
		if err != nil && rec.NetworkReady {
			t.Errorf("error %v beside a ready network", err)
		}
		if rec.NetworkReady && !strings.Contains(strings.ToLower(string(meta)), "cniresult") && !strings.Contains(string(meta), `\u`) {
			t.Errorf("network ready without a CNI result in %q", meta)
		}
		pause, pauseErr := decodeContainer(&containers.Container{ID: rec.ID, Runtime: &containers.Container_Runtime{Name: rec.Runtime},
			Extensions: map[string]*anypb.Any{containerExtension: {Value: meta}}})
		pause.Stored, pause.Created = rec.Stored, rec.Created // which a container does not tell
		if diff := cmp.Diff(rec, pause); diff != "" || (err == nil) != (pauseErr == nil) {
			t.Errorf("%q is another in a container: %v, %v\n%s", meta, err, pauseErr, diff)
		}
	})
}

// FuzzSandbox: the same for whole messages, of which any part may be missing.
func FuzzSandbox(f *testing.F) {
	for _, s := range []*types.Sandbox{{}, {SandboxID: "x", Runtime: &types.Sandbox_Runtime{Name: "io.containerd.runsc.v1"}}, sandboxWith(`{"Version":"v1"}`)} {
		data, err := proto.Marshal(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		s := &types.Sandbox{}
		_ = proto.Unmarshal(message, s) // as far as it goes
		if rec, err := decode(s); rec.ID != s.GetSandboxID() || err != nil && rec.NetworkReady {
			t.Errorf("%+v, %v", rec, err)
		}
		c := &containers.Container{}
		_ = proto.Unmarshal(message, c)
		if rec, err := decodeContainer(c); err == nil && rec.ID != c.GetID() || rec.Stored {
			t.Errorf("%+v, %v", rec, err)
		}
	})
}
