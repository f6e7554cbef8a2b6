package probe

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// dnsProbe is a question, and what one record of the answer must look like.
type dnsProbe struct {
	question dnsmessage.Question
	expect   *regexp.Regexp // nil is any answer, also an empty one
}

// records are the types whose records have a text here.
var records = map[string]dnsmessage.Type{
	"A": dnsmessage.TypeA, "AAAA": dnsmessage.TypeAAAA, "NS": dnsmessage.TypeNS, "CNAME": dnsmessage.TypeCNAME,
	"SOA": dnsmessage.TypeSOA, "PTR": dnsmessage.TypePTR, "MX": dnsmessage.TypeMX, "TXT": dnsmessage.TypeTXT,
	"SRV": dnsmessage.TypeSRV,
}

// prepareDNS asks for the servers of the root unless told otherwise: every resolver can answer that, and from its cache.
func prepareDNS(s Spec, _ netip.AddrPort) (exchange, *FieldError) {
	name := strings.TrimSuffix(s.Query, ".") + "."
	if s.Record == "" {
		s.Record = "A"
		if name == "." {
			s.Record = "NS"
		}
	}
	record, known := records[strings.ToUpper(s.Record)]
	if !known {
		return nil, invalid("record", "%q is none of %v", s.Record, slices.Sorted(maps.Keys(records)))
	}
	expect, problem := pattern("expect", s.Expect)
	if problem != nil {
		return nil, problem
	}
	d := &dnsProbe{expect: expect}
	var err error
	if d.question.Name, err = dnsmessage.NewName(name); err == nil {
		d.question.Type, d.question.Class = record, dnsmessage.ClassINET
		_, err = d.query(0) // checks the labels
	}
	if err != nil {
		return nil, invalid("query", "%q is no name such as www.example.com", s.Query)
	}
	return d.probe, nil
}

func (d *dnsProbe) query(id uint16) ([]byte, error) {
	message := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: id, RecursionDesired: true},
		Questions: []dnsmessage.Question{d.question},
	}
	return message.Pack()
}

func (d *dnsProbe) probe(ctx context.Context, p *Prober) error {
	conn, err := p.via.Dial(ctx, "udp", p.to)
	if err != nil {
		return &Failure{"connect", err}
	}
	defer conn.Close()
	id := uint16(rand.Uint32())
	query, err := d.query(id)
	if err != nil {
		return err
	}
	if _, err := conn.Write(query); err != nil {
		return &Failure{"send", err}
	}
	buffer := make([]byte, answerLimit)
	for {
		n, err := conn.Read(buffer)
		if err != nil {
			return &Failure{"", err}
		}
		if answered, err := d.judge(buffer[:n], id); answered {
			return err
		}
	}
}

// judge says whether a datagram answers the query, and whether the answer is good.
func (d *dnsProbe) judge(datagram []byte, id uint16) (answered bool, err error) {
	var parser dnsmessage.Parser
	header, err := parser.Start(datagram)
	if err != nil || header.ID != id || !header.Response {
		return false, nil
	}
	if header.RCode != dnsmessage.RCodeSuccess {
		return true, fmt.Errorf("the answer is %s", rcode(header.RCode))
	}
	if d.expect == nil {
		return true, nil
	}
	if err := parser.SkipAllQuestions(); err != nil {
		return true, fmt.Errorf("malformed answer: %w", err)
	}
	answers, err := parser.AllAnswers()
	if err != nil {
		return true, fmt.Errorf("malformed answer: %w", err)
	}
	for _, answer := range answers {
		if text, ok := recordText(answer.Body); ok && d.expect.MatchString(text) {
			return true, nil
		}
	}
	return true, fmt.Errorf("none of %d records matches %q", len(answers), d.expect)
}

// rcode returns the name of a response code (RFC 1035, section 4.1.1).
func rcode(code dnsmessage.RCode) string {
	names := []string{"NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED"}
	if int(code) < len(names) {
		return names[code]
	}
	return "rcode " + strconv.Itoa(int(code))
}

// recordText is the data of a record as zone files write it (RFC 1035, section 3.3; RFC 2782), strings without quotes and
// one after the other.
func recordText(body dnsmessage.ResourceBody) (string, bool) {
	switch r := body.(type) {
	case *dnsmessage.AResource:
		return netip.AddrFrom4(r.A).String(), true
	case *dnsmessage.AAAAResource:
		return netip.AddrFrom16(r.AAAA).String(), true
	case *dnsmessage.NSResource:
		return r.NS.String(), true
	case *dnsmessage.CNAMEResource:
		return r.CNAME.String(), true
	case *dnsmessage.PTRResource:
		return r.PTR.String(), true
	case *dnsmessage.TXTResource:
		return strings.Join(r.TXT, ""), true
	case *dnsmessage.MXResource:
		return fmt.Sprintf("%d %s", r.Pref, r.MX), true
	case *dnsmessage.SRVResource:
		return fmt.Sprintf("%d %d %d %s", r.Priority, r.Weight, r.Port, r.Target), true
	case *dnsmessage.SOAResource:
		return fmt.Sprintf("%s %s %d %d %d %d %d", r.NS, r.MBox, r.Serial, r.Refresh, r.Retry, r.Expire, r.MinTTL), true
	}
	return "", false
}
