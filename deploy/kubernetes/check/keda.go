package check

import (
	_ "embed"

	autoscaling "k8s.io/api/autoscaling/v2"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// ScaledObject is as much of KEDA's kind of that name as the manifests use. KEDA's own
// types are in a module with hundreds of dependencies; of fields not listed here the
// decoder says that they are unknown, so whoever uses one adds it, here and in
// keda.schema.json, after a look into KEDA's documentation.
type ScaledObject struct {
	meta.TypeMeta   `json:",inline"`
	meta.ObjectMeta `json:"metadata"`
	Spec            struct {
		ScaleTargetRef  autoscaling.CrossVersionObjectReference `json:"scaleTargetRef"`
		MinReplicaCount int32                                   `json:"minReplicaCount"`
		MaxReplicaCount int32                                   `json:"maxReplicaCount"`
		PollingInterval int32                                   `json:"pollingInterval"`
		Fallback        struct {
			FailureThreshold int32  `json:"failureThreshold"`
			Replicas         int32  `json:"replicas"`
			Behavior         string `json:"behavior"`
		} `json:"fallback"`
		Triggers []Trigger `json:"triggers"`
		Advanced struct {
			HPA struct {
				Behavior *autoscaling.HorizontalPodAutoscalerBehavior `json:"behavior"`
			} `json:"horizontalPodAutoscalerConfig"`
		} `json:"advanced"`
	} `json:"spec"`
}

// Trigger is one metric by which a ScaledObject scales.
type Trigger struct {
	Type       string            `json:"type"`
	Name       string            `json:"name"`
	MetricType string            `json:"metricType"`
	Metadata   map[string]string `json:"metadata"`
}

// DeepCopyObject makes it a runtime.Object. Nothing here changes or copies one.
func (s *ScaledObject) DeepCopyObject() runtime.Object { return s }

func addKEDA(s *runtime.Scheme) error {
	s.AddKnownTypes(schema.GroupVersion{Group: "keda.sh", Version: "v1alpha1"}, &ScaledObject{})
	return nil
}

//go:embed keda.schema.json
var kedaText []byte

// kedaSchema says more of values than types do.
var kedaSchema = func() *jsonschema.Schema {
	var def any
	if err := yaml.Unmarshal(kedaText, &def); err != nil {
		panic(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("keda.schema.json", def); err != nil {
		panic(err)
	}
	return c.MustCompile("keda.schema.json")
}()

// validate checks values by the published schema.
func (s *ScaledObject) validate(doc []byte) error {
	var value any
	if err := yaml.Unmarshal(doc, &value); err != nil {
		return err
	}
	return kedaSchema.Validate(value)
}
