// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"reflect"
	"runtime"
	"testing"

	"github.com/neighpin/neighpin/pkg/record"
)

// atRest is the record of a sandbox as most of a node look like, from the record's own tests.
func atRest(t testing.TB) record.Record {
	t.Helper()
	rec, err := record.In("../record/testdata").Load("4f3a8c0f2f6d4a7e9b1c5d3e7f90a1b2c3d4e5f60718293a4b5c6d7e8f901234")
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

// Whatever a record has, a sandbox at rest still has it: each field is given something.
func TestASandboxAtRestLosesNothingOfItsRecord(t *testing.T) {
	for i := range reflect.TypeFor[record.Record]().NumField() {
		rec := atRest(t)
		field := reflect.TypeFor[record.Record]().Field(i)
		fill(reflect.ValueOf(&rec).Elem().Field(i))
		s := newSandbox(nil, rec.Identity())
		s.update(func(r *record.Record) { *r = rec })
		s.finish()
		if got := s.record(); !reflect.DeepEqual(got, rec) {
			t.Errorf("%s: %+v, want %+v", field.Name, got, rec)
		}
		s.update(func(r *record.Record) { r.Repins++ })
		rec.Repins++
		if got := s.record(); !reflect.DeepEqual(got, rec) {
			t.Errorf("%s, after a change: %+v, want %+v", field.Name, got, rec)
		}
	}
}

// fill gives a value something that is not zero.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString("odd")
	case reflect.Int:
		v.SetInt(7)
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
	}
}

// A node has thousands of these in memory.
func TestASandboxAtRestTakesLessThanTwoKilobytes(t *testing.T) {
	const count = 2000
	heap := func() uint64 {
		var stats runtime.MemStats
		runtime.GC()
		runtime.GC() // what had a finalizer, or was in a pool, goes with the second
		runtime.ReadMemStats(&stats)
		return stats.HeapAlloc
	}
	all := make([]*sandbox, count)
	before := heap()
	for i := range all {
		rec := atRest(t)
		all[i] = newSandbox(nil, rec.Identity())
		all[i].update(func(r *record.Record) { *r = rec })
		all[i].finish()
	}
	each := (heap() - before) / count
	t.Logf("%d bytes", each)
	if each > 1280 {
		t.Errorf("a sandbox and its ward take %d bytes, without its id's and its path's", each)
	}
	runtime.KeepAlive(all)
}

func TestALatchOpensOnceForAll(t *testing.T) {
	var l latch
	before := l.opened()
	if l.isOpen() {
		t.Error("it is open")
	}
	l.open()
	l.open()
	<-before
	<-l.opened()
	if !l.isOpen() {
		t.Error("it is shut")
	}
}
