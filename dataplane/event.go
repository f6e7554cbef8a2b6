package dataplane

import (
	"errors"
	"fmt"
	"net/netip"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
)

// Verdict is what became of a packet and why.
type Verdict struct {
	Action  string // "tx", "redirect", "pass" or "drop"
	Reason  string // one of the names of Reasons, "to_backend" or "to_client"
	Service ServiceKey
	Served  bool           // it belongs to Service
	Backend netip.AddrPort // of the service; zero when none was chosen
	Cause   Cause
	Hash    uint32 // that chose the slot; set with Slots
	Slot    uint32 // of the table, 0..Slots-1
	Slots   uint32 // size of the table; 0: no slot was looked at
	Set     string // of backends that the source address chose
}

// Cause is why a packet goes to its backend.
type Cause uint8

// The causes. Their values are those of enum cause in headers/sluice.h.
const (
	CauseNone         Cause = iota
	CauseSlot               // the slot of its hash
	CauseFlow               // its flow is remembered
	CauseAssociation        // its SCTP association is remembered
	CauseConnectionID       // its QUIC connection ID names the backend
	CauseReply              // it came from the backend, in nat mode
	CausePrevious           // it is older than a change of its slot
	CauseSecond             // its second slot had less load, with policy p2c
)

var causeNames = names[Cause]{
	{CauseNone, "none"}, {CauseSlot, "slot"}, {CauseFlow, "flow"}, {CauseAssociation, "association"},
	{CauseConnectionID, "connection-id"}, {CauseReply, "reply"},
	{CausePrevious, "previous"}, {CauseSecond, "second-slot"},
}

// String returns for example "slot" or "connection-id".
func (c Cause) String() string { return causeNames.text(c) }

// MarshalText returns String.
func (c Cause) MarshalText() ([]byte, error) { return causeNames.marshal(c, "cause") }

// UnmarshalText accepts what MarshalText returns.
func (c *Cause) UnmarshalText(text []byte) error { return causeNames.unmarshal(c, text, "cause") }

// verdict translates what the program says. d.mu must be held.
func (d *Dataplane) verdict(v balancerVerdict, action uint32) Verdict {
	verdict := Verdict{
		Action: actionNames[action],
		Reason: d.names[v.Reason],
		Served: v.Served != 0,
		Cause:  Cause(v.Cause),
		Hash:   v.Hash,
		Slot:   v.Slot,
		Slots:  v.Slots,
	}
	if v.Backend == 0 {
		verdict.Cause = CauseNone // what was tried chose nothing
	}
	if !verdict.Served {
		return verdict
	}
	if st := d.byIndex[uint32(v.Service)]; st != nil {
		verdict.Service = st.key
		for name, set := range st.sets {
			if set.index == uint32(v.Set) {
				verdict.Set = name
			}
		}
	}
	if v.Backend != 0 && int(v.Backend) < len(d.backends.items) { // which are gone when d is closed
		verdict.Backend = d.backends.items[v.Backend].endpoint()
	}
	return verdict
}

// shownObjects are what the program that shows packets consists of.
type shownObjects struct {
	balancerMaps
	balancerVariables
	Bss           *ebpf.Map     `ebpf:".bss"` // of the variables that are not constant
	ShownBalancer *ebpf.Program `ebpf:"shown_balancer"`
}

// Close lets go of all of them.
func (o *shownObjects) Close() error {
	return errors.Join(o.balancerMaps.Close(), o.Bss.Close(), o.ShownBalancer.Close())
}

// readEvent waits for the next event, until the reader's deadline.
func readEvent(reader *ringbuf.Reader) (*balancerEvent, error) {
	record, err := reader.Read()
	if err != nil {
		return nil, err
	}
	if len(record.RawSample) < int(unsafe.Sizeof(balancerEvent{})) {
		return nil, fmt.Errorf("an event has %d bytes", len(record.RawSample))
	}
	return (*balancerEvent)(unsafe.Pointer(&record.RawSample[0])), nil // a copy of its own
}
