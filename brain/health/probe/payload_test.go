package probe

import (
	"bytes"
	"io"
	"net"
	"testing"
)

func TestTCPDialogue(t *testing.T) {
	onLoopbacks(t, func(t *testing.T, address string) {
		to := listen(t, address, greet)
		succeeds(t, Spec{}, to)
		succeeds(t, Spec{Kind: TCP, Expect: `^220 .*\r\n$`}, to)
		timesOut(t, Spec{Expect: "^250"}, to, `the answer "220 ready\r\n" does not match "^250": no answer`)

		echo := listen(t, address, func(c net.Conn) { _, _ = io.CopyN(c, c, 6) })
		succeeds(t, Spec{Send: `PING\r\n`}, echo)
		succeeds(t, Spec{Send: `PING\r\n`, Expect: "^PING\r\n$"}, echo)
		fails(t, Spec{Send: `PING\x00\n`, Expect: "PONG"}, echo, `the answer "PING\x00\n" does not match "PONG"`)

		closes := listen(t, address, func(net.Conn) {})
		fails(t, Spec{Expect: "x"}, closes, "answer: connection closed")
	})
}

func TestTCPAnswerIsLookedAtUpToALimit(t *testing.T) {
	to := listen(t, loopbacks[0], func(c net.Conn) {
		_, _ = c.Write(append(bytes.Repeat([]byte("x"), answerLimit), "end"...))
		_, _ = io.Copy(io.Discard, c)
	})
	succeeds(t, Spec{Expect: "x"}, to)
	fails(t, Spec{Expect: "end"}, to, "does not match")
}

func TestUDP(t *testing.T) {
	onLoopbacks(t, func(t *testing.T, address string) {
		to := listenPacket(t, address, func(datagram []byte) []byte { return append([]byte("echo "), datagram...) })
		succeeds(t, Spec{Kind: UDP, Send: `\x00ping`}, to)
		succeeds(t, Spec{Kind: UDP, Send: `\x00ping`, Expect: `^echo \x00ping$`}, to)
		fails(t, Spec{Kind: UDP, Send: "ping", Expect: "^pong"}, to, `the answer "echo ping" does not match "^pong"`)
		empty := listenPacket(t, address, func([]byte) []byte { return []byte{} })
		succeeds(t, Spec{Kind: UDP, Send: "ping"}, empty) // an empty datagram is an answer
	})
}
