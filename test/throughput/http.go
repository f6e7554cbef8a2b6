package throughput

import (
	"strconv"
	"strings"
)

// What is on the wire is HTTP/1.1 (RFC 9112), as short as it can be.
const (
	requestBegin  = "GET /"
	requestMiddle = " HTTP/1.1\r\nHost: sluice\r\n"
	answerBegin   = "HTTP/1.1 200 OK\r\nContent-Length: "
	closeHeader   = "Connection: close\r\n" // asks for the end of a connection, or announces it (section 9.6)
)

// request asks for so many bytes. The last one of a connection says so.
func request(size int, last bool) string {
	return requestBegin + strconv.Itoa(size) + requestMiddle + closing(last) + "\r\n"
}

// parseRequest reads a complete request, and returns false for any other than ours.
func parseRequest(text string) (size int, last, ok bool) {
	path, _, versioned := strings.Cut(text, " HTTP/1.1\r\n")
	number, get := strings.CutPrefix(path, requestBegin)
	size, err := strconv.Atoi(number)
	return size, strings.Contains(text, "\r\n"+closeHeader), get && versioned && err == nil && size >= 0
}

// answer is what comes before so many bytes.
func answer(size int, last bool) string {
	return answerBegin + strconv.Itoa(size) + "\r\n" + closing(last) + "\r\n"
}

func closing(last bool) string {
	if last {
		return closeHeader
	}
	return ""
}
