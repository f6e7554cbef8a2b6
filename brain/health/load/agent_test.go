package load

import (
	"bufio"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// say is an agent with one answer, which then waits for its client to go.
func say(answer string) func(net.Conn) {
	return func(c net.Conn) {
		_, _ = io.WriteString(c, answer)
		_, _ = io.Copy(io.Discard, c)
	}
}

func TestAgentSays(t *testing.T) {
	for line, want := range map[string]Report{
		"75%\n":                     {Weight: new(0.75)},
		"0%\r\n":                    {Weight: new(0.0)},
		"250%\n":                    {Weight: new(2.5)},
		"up\n":                      {Health: Up},
		"UP\n":                      {Health: Up},
		"down\n":                    {Health: Down},
		"down # the disk is full\n": {Health: Down, Description: "the disk is full"},
		"fail#no database\n":        {Health: Down, Description: "no database"},
		"stopped\n":                 {Health: Down},
		"ready\n":                   {Admin: Ready},
		"drain\n":                   {Admin: Drain},
		"maint\n":                   {Admin: Maint},
		"maxconn:30\n":              {MaxConn: new(30)},
		"maxconn:0\n":               {MaxConn: new(0)},
		"  ready,\tup , 80%,maxconn:5  # all well\rnext\n": {Admin: Ready, Health: Up, Weight: new(0.8), MaxConn: new(5), Description: "all well"},
		"10% 20%\n":       {Weight: new(0.2)},
		"50% # 60%\nup\n": {Weight: new(0.5)},
	} {
		reports(t, Spec{}, listen(t, loopbacks[0], say(line)), want)
	}
}

func TestAgentSaysWhatIsNotUnderstood(t *testing.T) {
	for line, text := range map[string]string{
		"sideways\n":                         `"sideways", which is none of`,
		"up 75\n":                            `"75", which is none of`,
		"-5%\n":                              `"-5%", which is none of`,
		"7.5%\n":                             `"7.5%", which is none of`,
		"%\n":                                `"%", which is none of`,
		"99999999999%\n":                     `"99999999999%", which is none of`,
		"maxconn:\n":                         `"maxconn:", which is none of`,
		"maxconn:-1\n":                       `"maxconn:-1", which is none of`,
		"maxconn: 5\n":                       `"maxconn:", which is none of`,
		"HTTP/1.1 200 OK\r":                  `"HTTP/1.1", which is none of`,
		"\n":                                 "the agent said nothing",
		" ,# well\n":                         "the agent said nothing",
		strings.Repeat("up ", lineLimit/3+1): "longer than 4096 bytes",
	} {
		fails(t, Spec{}, listen(t, loopbacks[0], say(line)), text)
	}
}

func TestAgentHearsWhatIsSent(t *testing.T) {
	for _, address := range loopbacks {
		to := listen(t, address, func(c net.Conn) {
			if asked, err := bufio.NewReader(c).ReadString('\n'); err == nil && asked == "web\n" {
				_, _ = io.WriteString(c, "up")
				_, _ = io.WriteString(c, " 40%\n")
			}
		})
		reports(t, Spec{Kind: Agent, Send: `web\n`}, to, Report{Health: Up, Weight: new(0.4)})
	}
}

func TestAgentsLineEndsWithTheConnection(t *testing.T) {
	hangUp := func(answer string) func(net.Conn) {
		return func(c net.Conn) { _, _ = io.WriteString(c, answer) }
	}
	reports(t, Spec{}, listen(t, loopbacks[0], hangUp("drain")), Report{Admin: Drain})
	fails(t, Spec{}, listen(t, loopbacks[0], hangUp("")), "report: connection closed")
	_, err := readWithin(t, 250*time.Millisecond, Spec{}, listen(t, loopbacks[0], say("drain")))
	if err == nil || err.Error() != "report: no answer" {
		t.Errorf("half a line ended with %v", err)
	}
}
