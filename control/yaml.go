package control

import (
	"encoding"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// document decodes YAML into Go values and remembers where each field stands, so that errors found
// only later, when the values are checked as a whole, can still point at the line.
//
// Decoding is strict: unknown and repeated keys, values of another type and numbers out of range are errors.
// A null counts as absent. Keys are those of the json tags.
type document struct {
	name      string
	root      ast.Node
	positions map[string]*token.Position // by path, such as "services[2].name": where the key or the entry begins
	anchors   map[string]ast.Node
}

// parseYAML reads exactly one YAML document; name is the file's, for errors.
func parseYAML(name string, data []byte) (*document, error) {
	file, err := parser.ParseBytes(data, 0)
	if err != nil {
		var located yaml.Error
		if errors.As(err, &located) {
			at := located.GetToken().Position
			return nil, tag(ErrInvalid, "%s:%d:%d: %s", name, at.Line, at.Column, located.GetMessage())
		}
		return nil, tag(ErrInvalid, "%s: %v", name, err)
	}
	d := &document{name: name, positions: map[string]*token.Position{}, anchors: map[string]ast.Node{}}
	for _, part := range file.Docs {
		if part.Body == nil {
			continue
		}
		if d.root != nil {
			return nil, tag(ErrInvalid, "%s:%d:1: a second document begins here, one is allowed", name, part.Body.GetToken().Position.Line)
		}
		d.root = part.Body
	}
	return d, nil
}

// decode fills value, a pointer to a struct; what the document does not mention stays as it is.
func (d *document) decode(value any) *FieldError {
	if d.root == nil {
		return nil
	}
	d.positions[""] = start(d.root)
	return d.value(d.root, reflect.ValueOf(value).Elem(), "")
}

// at returns "file:line:column" of a path or, where that is not in the document, of what encloses it.
func (d *document) at(path string) string {
	for {
		if p := d.positions[path]; p != nil {
			return fmt.Sprintf("%s:%d:%d", d.name, p.Line, p.Column)
		}
		if path == "" {
			return d.name
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
}

func (d *document) value(node ast.Node, v reflect.Value, path string) *FieldError {
	switch n := node.(type) {
	case *ast.AnchorNode:
		d.anchors[n.Name.GetToken().Value] = n.Value
		return d.value(n.Value, v, path)
	case *ast.AliasNode:
		name := n.Value.GetToken().Value
		target, known := d.anchors[name]
		if !known {
			return invalid(path, "*%s is an alias of nothing", name)
		}
		return d.value(target, v, path)
	case *ast.NullNode:
		return nil
	}
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		return d.value(node, v.Elem(), path)
	}
	if text, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return textValue(node, text, path)
	}
	switch v.Kind() {
	case reflect.Struct:
		return d.structValue(node, v, path)
	case reflect.Slice:
		return d.sliceValue(node, v, path)
	case reflect.String:
		return stringValue(node, v, path)
	case reflect.Bool:
		return boolValue(node, v, path)
	case reflect.Float64:
		return floatValue(node, v, path)
	default:
		return numberValue(node, v, path)
	}
}

func (d *document) structValue(node ast.Node, v reflect.Value, path string) *FieldError {
	mapping, ok := node.(ast.MapNode)
	if !ok {
		return invalid(path, "%s is not a group of keys (known: %s)", describe(node), strings.Join(keys(v.Type()), ", "))
	}
	for entry := mapping.MapRange(); entry.Next(); {
		key := entry.Key().GetToken()
		inner := key.Value
		if path != "" {
			inner = path + "." + inner
		}
		d.positions[inner] = key.Position
		known := fields(v.Type())
		i := slices.IndexFunc(known, func(f reflect.StructField) bool { return keyOf(f) == key.Value })
		if i < 0 {
			return invalid(inner, "unknown key (known: %s)", strings.Join(keys(v.Type()), ", "))
		}
		if err := d.value(entry.Value(), v.FieldByIndex(known[i].Index), inner); err != nil {
			return err
		}
	}
	return nil
}

// fields are those of a struct in their order, with those of embedded structs in their place.
func fields(t reflect.Type) []reflect.StructField {
	return slices.DeleteFunc(reflect.VisibleFields(t), func(f reflect.StructField) bool { return f.Anonymous })
}

// keys are the names of a struct's fields in YAML and JSON.
func keys(t reflect.Type) []string {
	var names []string
	for _, field := range fields(t) {
		names = append(names, keyOf(field))
	}
	return names
}

func keyOf(field reflect.StructField) string {
	name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
	if name == "" {
		name = strings.ToLower(field.Name)
	}
	return name
}

func (d *document) sliceValue(node ast.Node, v reflect.Value, path string) *FieldError {
	sequence, ok := node.(*ast.SequenceNode)
	if !ok {
		return invalid(path, "%s is not a list", describe(node))
	}
	v.Set(reflect.MakeSlice(v.Type(), len(sequence.Values), len(sequence.Values)))
	for i, entry := range sequence.Values {
		inner := fmt.Sprintf("%s[%d]", path, i)
		d.positions[inner] = start(entry)
		if err := d.value(entry, v.Index(i), inner); err != nil {
			return err
		}
	}
	return nil
}

// start is where a node begins; the token of a mapping is the ':' after its first key.
func start(node ast.Node) *token.Position {
	if mapping, ok := node.(ast.MapNode); ok {
		if entry := mapping.MapRange(); entry.Next() {
			return entry.Key().GetToken().Position
		}
	}
	return node.GetToken().Position
}

func textValue(node ast.Node, v encoding.TextUnmarshaler, path string) *FieldError {
	if _, ok := node.(ast.ScalarNode); !ok {
		return invalid(path, "%s is not a text", describe(node))
	}
	if err := v.UnmarshalText([]byte(node.GetToken().Value)); err != nil {
		return invalid(path, "%v", err)
	}
	return nil
}

func stringValue(node ast.Node, v reflect.Value, path string) *FieldError {
	switch n := node.(type) {
	case *ast.StringNode:
		v.SetString(n.Value)
	case *ast.LiteralNode:
		v.SetString(n.Value.Value)
	default:
		return invalid(path, "%s is not a text (quotes make it one)", describe(node))
	}
	return nil
}

func boolValue(node ast.Node, v reflect.Value, path string) *FieldError {
	truth, ok := node.(*ast.BoolNode)
	if !ok {
		return invalid(path, "%s is not true or false", describe(node))
	}
	v.SetBool(truth.Value)
	return nil
}

func floatValue(node ast.Node, v reflect.Value, path string) *FieldError {
	switch node.(type) {
	case *ast.FloatNode, *ast.IntegerNode:
		if number, err := strconv.ParseFloat(node.GetToken().Value, 64); err == nil {
			v.SetFloat(number)
			return nil
		}
	}
	return invalid(path, "%s is not a number", describe(node))
}

func numberValue(node ast.Node, v reflect.Value, path string) *FieldError {
	number, ok := node.(*ast.IntegerNode)
	if !ok {
		return invalid(path, "%s is not a whole number", describe(node))
	}
	signed, isSigned := number.Value.(int64)
	unsigned, isUnsigned := number.Value.(uint64)
	if isUnsigned && unsigned <= math.MaxInt64 {
		signed, isSigned = int64(unsigned), true
	}
	if v.CanUint() {
		if isSigned && signed < 0 || v.OverflowUint(uint64(signed)) || !isSigned {
			return invalid(path, "%s is not within 0..%d", describe(node), uint64(1)<<v.Type().Bits()-1)
		}
		v.SetUint(uint64(signed))
		return nil
	}
	if !isSigned || v.OverflowInt(signed) {
		return invalid(path, "%s is too large", describe(node))
	}
	v.SetInt(signed)
	return nil
}

// describe names a node in an error.
func describe(node ast.Node) string {
	switch n := node.(type) {
	case *ast.StringNode:
		return fmt.Sprintf("%q", n.Value)
	case ast.MapNode:
		return "a group of keys"
	case *ast.SequenceNode:
		return "a list"
	case ast.ScalarNode:
		return n.GetToken().Value
	}
	return strings.ToLower(node.Type().String())
}
