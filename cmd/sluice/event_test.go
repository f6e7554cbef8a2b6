package main

import "testing"

// What is declared is listed, exported and removed, by command and by manifest alike.
func TestEvent(t *testing.T) {
	s := newWebSession(t)
	s.run("event list")
	s.run("event add --service web --at 2026-11-27T09:00 --zone Europe/Berlin --for 2h --expect +40% --every week --name sale")
	s.run("event add --service 10.0.0.1 --at 2026-12-24T18:00:00+01:00 --for 90m --expect -30% -o json")
	s.run("event add --service web --at 2026-12-04T18:00:00Z --for 1h --expect +25% --name sale")
	s.run("event list")
	s.run("event list --service dns")
	s.run("event list --service 10.0.0.1:80 -o json")
	s.stdin = s.run("export")
	s.run("apply -f -")
	s.file("events.yaml", "events:\n- {service: dns, name: news, at: 2026-11-01T20:00:00Z, for: 15m, expect: +200%, every: day}\n"+
		"- {service: web, name: sale, at: 2026-12-04T18:00:00Z, for: 2h, expect: +25%}\n")
	s.run("apply -f $DIR/events.yaml --dry-run")
	s.run("event remove web sale --at 2026-12-04T18:00:00Z")
	s.run("event remove web sale")
	s.run("event list")
	s.golden()
}

func TestEventWrong(t *testing.T) {
	s := newWebSession(t)
	s.run("event add --service web --at 2026-11-27T09:00:00Z --for 2h --expect +40% --name sale")
	for _, line := range []string{
		"event add --service web --at 2026-11-27T09:00:00Z --for 2h --expect +40% --name sale",
		"event add --service nothing --at 2026-11-27T09:00:00Z --for 2h --expect +40%",
		"event add --service web --at 2026-11-27T09:00 --for 2h --expect +40%",
		"event add --service web --at tomorrow --zone Europe/Berlin --for 2h --expect +40%",
		"event add --service web --at 2026-11-27T09:00:00Z --for 2h --expect 40",
		"event add --service web --at 2026-11-27T09:00:00Z --for soon --expect +40%",
		"event add --service web --at 2026-11-27T09:00:00Z --for 25h --expect +40% --every day",
		"event add --service web --at 2026-11-27T09:00:00Z --for 2h --expect +40% --every moon",
		"event add --service web --at 2026-11-27T09:00:00Z --for 2h --expect +40% --zone Moon",
		"event add --service web --at 2026-11-27T09:00:00Z --for 2h",
		"event add web",
		"event remove web nothing",
		"event remove web sale --at 2026-11-28T09:00:00Z",
		"event remove web sale --at soon",
		"event remove nothing sale",
		"event remove web",
		"event list --service nothing",
		"event",
	} {
		s.run(line)
	}
	s.golden()
}
