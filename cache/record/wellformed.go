package record

// wellFormed says whether payload is exactly one MessagePack value (github.com/msgpack/msgpack, spec.md, "Formats"), none of
// whose lengths goes beyond its end: a decoder makes room for what a length claims before it sees that there is less.
func wellFormed(payload []byte) bool {
	for values := 1; values > 0; values-- {
		if len(payload) == 0 {
			return false
		}
		first := payload[0]
		payload = payload[1:]
		room, inside, count := 0, 0, 0 // bytes of its own, values inside, bytes that say how many
		switch {
		case first <= 0x7f || first >= 0xe0 || first == 0xc0 || first == 0xc2 || first == 0xc3: // small integers, nil, booleans
		case first <= 0x8f: // small map
			inside = 2 * int(first&0x0f)
		case first <= 0x9f: // small array
			inside = int(first & 0x0f)
		case first <= 0xbf: // short string
			room = int(first & 0x1f)
		case first >= 0xc4 && first <= 0xc6: // binary
			count = 1 << (first - 0xc4)
		case first >= 0xc7 && first <= 0xc9: // extension and its type
			count, room = 1<<(first-0xc7), 1
		case first == 0xca || first == 0xcb: // floats
			room = 4 << (first - 0xca)
		case first >= 0xcc && first <= 0xcf: // unsigned
			room = 1 << (first - 0xcc)
		case first >= 0xd0 && first <= 0xd3: // signed
			room = 1 << (first - 0xd0)
		case first >= 0xd4 && first <= 0xd8: // extension of fixed length and its type
			room = 1 + 1<<(first-0xd4)
		case first >= 0xd9 && first <= 0xdb: // string
			count = 1 << (first - 0xd9)
		case first == 0xdc || first == 0xdd: // array
			count = 2 << (first - 0xdc)
		case first == 0xde || first == 0xdf: // map
			count = 2 << (first - 0xde)
		default:
			return false
		}
		if count > 0 {
			if len(payload) < count {
				return false
			}
			length := 0
			for _, b := range payload[:count] {
				length = length<<8 | int(b)
			}
			payload = payload[count:]
			switch {
			case first < 0xdc:
				room += length
			case first < 0xde:
				inside = length
			default:
				inside = 2 * length
			}
		}
		values += inside
		if len(payload) < room || len(payload)-room < values-1 { // each value has a byte at least
			return false
		}
		payload = payload[room:]
	}
	return len(payload) == 0
}
