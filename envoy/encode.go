package envoy

import (
	"bytes"
	"encoding/json"
	"fmt"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// YAML encodes a generated message as Envoy reads it, fields in the order of
// their declaration, byte for byte the same every time.
func YAML(m proto.Message) ([]byte, error) {
	node, err := yamlNode(m)
	if err != nil {
		return nil, err
	}
	return encodeYAML(node)
}

// JSON encodes a generated message as Envoy reads it.
func JSON(m proto.Message) ([]byte, error) {
	compact, err := compactJSON(m)
	if err != nil {
		return nil, err
	}
	return indentJSON(compact)
}

// YAML encodes the parts as the two lists that they are entries of.
func (p *Parts) YAML() ([]byte, error) {
	filter, err := yamlNode(p.Filter)
	if err != nil {
		return nil, err
	}
	cluster, err := yamlNode(p.Cluster)
	if err != nil {
		return nil, err
	}
	entry := func(name string, only *yaml.Node) []*yaml.Node {
		return []*yaml.Node{
			{Kind: yaml.ScalarNode, Value: name},
			{Kind: yaml.SequenceNode, Content: []*yaml.Node{only}},
		}
	}
	return encodeYAML(&yaml.Node{
		Kind:    yaml.MappingNode,
		Content: append(entry("http_filters", filter), entry("clusters", cluster)...),
	})
}

// JSON encodes the parts as the two lists that they are entries of.
func (p *Parts) JSON() ([]byte, error) {
	filter, err := compactJSON(p.Filter)
	if err != nil {
		return nil, err
	}
	cluster, err := compactJSON(p.Cluster)
	if err != nil {
		return nil, err
	}
	return indentJSON(fmt.Appendf(nil, `{"http_filters":[%s],"clusters":[%s]}`, filter, cluster))
}

// compactJSON takes out the white space, which protojson varies on purpose.
func compactJSON(m proto.Message) ([]byte, error) {
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", m.ProtoReflect().Descriptor().Name(), err)
	}
	var out bytes.Buffer
	if err := json.Compact(&out, text); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func indentJSON(compact []byte) ([]byte, error) {
	var out bytes.Buffer
	if err := json.Indent(&out, compact, "", "  "); err != nil {
		return nil, err
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}

// yamlNode reads the JSON form as YAML, which it is, and keeps the order.
func yamlNode(m proto.Message) (*yaml.Node, error) {
	compact, err := compactJSON(m)
	if err != nil {
		return nil, err
	}
	var document yaml.Node
	if err := yaml.Unmarshal(compact, &document); err != nil {
		return nil, err
	}
	node := document.Content[0]
	blockStyle(node)
	return node, nil
}

// blockStyle drops JSON's braces and quotes; the encoder quotes again the
// strings that would read as something else.
func blockStyle(n *yaml.Node) {
	n.Style = 0
	for _, child := range n.Content {
		blockStyle(child)
	}
}

func encodeYAML(node *yaml.Node) ([]byte, error) {
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := enc.Encode(node); err != nil {
		return nil, err
	}
	if err := enc.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
