package probe

import (
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// answerDNS is a server of the zones "." and "backend.test.", which says NXDOMAIN to everything else.
func answerDNS(datagram []byte) []byte {
	var query dnsmessage.Message
	if query.Unpack(datagram) != nil || len(query.Questions) != 1 || !query.RecursionDesired {
		return nil
	}
	question := query.Questions[0]
	answer := dnsmessage.Message{Header: dnsmessage.Header{ID: query.ID, Response: true}, Questions: query.Questions}
	add := func(body dnsmessage.ResourceBody) {
		header := dnsmessage.ResourceHeader{Name: question.Name, Class: dnsmessage.ClassINET, TTL: 1}
		answer.Answers = append(answer.Answers, dnsmessage.Resource{Header: header, Body: body})
	}
	name := dnsmessage.MustNewName("name.test.")
	switch question.Name.String() + " " + question.Type.String() {
	case ". TypeNS":
		add(&dnsmessage.NSResource{NS: dnsmessage.MustNewName("a.root-servers.net.")})
	case "backend.test. TypeA":
		add(&dnsmessage.CNAMEResource{CNAME: name})
		add(&dnsmessage.AResource{A: [4]byte{192, 0, 2, 1}})
	case "backend.test. TypeAAAA":
		add(&dnsmessage.AAAAResource{AAAA: [16]byte{0x20, 1, 0xd, 0xb8, 15: 1}})
	case "backend.test. TypeTXT":
		add(&dnsmessage.TXTResource{TXT: []string{"all is ", "well"}})
	case "backend.test. TypeMX":
		add(&dnsmessage.MXResource{Pref: 10, MX: name})
	case "backend.test. TypeSRV":
		add(&dnsmessage.SRVResource{Priority: 1, Weight: 2, Port: 3, Target: name})
	case "backend.test. TypePTR":
		add(&dnsmessage.PTRResource{PTR: name})
	case "backend.test. TypeSOA":
		add(&dnsmessage.SOAResource{NS: name, MBox: name, Serial: 1, Refresh: 2, Retry: 3, Expire: 4, MinTTL: 5})
	case "empty.test. TypeA":
	case "broken.test. TypeA":
		answer.RCode = dnsmessage.RCodeServerFailure
	case "extended.test. TypeA":
		answer.RCode = 9 // NOTAUTH
	default:
		answer.RCode = dnsmessage.RCodeNameError
	}
	packed, err := answer.Pack()
	if err != nil {
		panic(err)
	}
	return packed
}

func TestDNS(t *testing.T) {
	onLoopbacks(t, func(t *testing.T, address string) {
		to := listenPacket(t, address, answerDNS)
		succeeds(t, Spec{Kind: DNS}, to)
		succeeds(t, Spec{Kind: DNS, Expect: `^a\.root-servers\.net\.$`}, to)
		succeeds(t, Spec{Kind: DNS, Query: "backend.test"}, to)
		for record, text := range map[string]string{
			"": `^192\.0\.2\.1$`, "A": `^name\.test\.$`, "AAAA": "^2001:db8::1$", "TXT": "^all is well$", "mx": `^10 name\.test\.$`,
			"SRV": `^1 2 3 name\.test\.$`, "PTR": `^name\.test\.$`, "SOA": `^name\.test\. name\.test\. 1 2 3 4 5$`,
		} {
			succeeds(t, Spec{Kind: DNS, Query: "backend.test.", Record: record, Expect: text}, to)
		}
		fails(t, Spec{Kind: DNS, Query: "backend.test", Expect: `^192\.0\.2\.2$`}, to, `none of 2 records matches "^192\\.0\\.2\\.2$"`)
		succeeds(t, Spec{Kind: DNS, Query: "empty.test"}, to)
		fails(t, Spec{Kind: DNS, Query: "empty.test", Expect: "."}, to, "none of 0 records matches")
		fails(t, Spec{Kind: DNS, Query: "absent.test"}, to, "the answer is NXDOMAIN")
		fails(t, Spec{Kind: DNS, Query: "broken.test"}, to, "the answer is SERVFAIL")
		fails(t, Spec{Kind: DNS, Query: "extended.test"}, to, "the answer is rcode 9")
	})
}

func TestDNSTakesNoOtherDatagramForTheAnswer(t *testing.T) {
	for name, forge := range map[string]func(answer []byte) []byte{
		"another ID":   func(answer []byte) []byte { answer[1]++; return answer },
		"the query":    func(answer []byte) []byte { answer[2] &^= 0x80; return answer },
		"not a header": func([]byte) []byte { return []byte("no") },
	} {
		t.Run(name, func(t *testing.T) {
			to := listenPacket(t, loopbacks[0], func(query []byte) []byte { return forge(answerDNS(query)) })
			timesOut(t, Spec{Kind: DNS}, to, "no answer")
		})
	}
	cut := listenPacket(t, loopbacks[0], func(query []byte) []byte { answer := answerDNS(query); return answer[:len(answer)-1] })
	fails(t, Spec{Kind: DNS, Expect: "."}, cut, "malformed answer")
}
