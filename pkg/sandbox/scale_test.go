// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/neighpin/neighpin/internal/figures"
	"github.com/neighpin/neighpin/pkg/record"
)

// What a pod of gVisor with a gateway of each family takes on disk, on tmpfs by default.
func TestARecordIsAsLargeAsTheDocumentSays(t *testing.T) {
	n := newNode(t)
	p := n.newPod("runsc", typeGVisor).listed().cni().ready()
	n.awaitPinned()
	p.take()
	n.awaitVerdict(record.InTime)
	n.settled(podID)
	n.engine.Close()
	files, err := filepath.Glob(filepath.Join(n.stateDir, "*", podID+"*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%v, %v", files, err)
	}
	info, err := os.Stat(files[0])
	if err != nil {
		t.Fatal(err)
	}
	doc := figures.Read(t, "../../docs/scale.md")
	doc.Check(t, "a record on disk, bytes", float64(info.Size()), 0.15)
}
