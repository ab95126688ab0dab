//! The format of a session.

use super::{Door, path};
use crate::{
    grpc::convert::to_proto,
    proto,
    session::{
        ids::Key,
        schema::{self, Field, Fields, Schema, Type},
    },
};
use prost::Message;
use std::{collections::BTreeMap, sync::Arc};

/// Bytes of a schema, encoded as fields: it must fit into a message beside other things.
const SCHEMA_BYTES: usize = 256 * 1024;

type WireFields = BTreeMap<String, proto::Field>;
type WireValues = BTreeMap<String, proto::Value>;

impl Door<'_> {
    /// A schema, or none where the field is absent.
    pub fn schema(&mut self, field: &str, wire: Option<proto::Schema>) -> Option<Arc<Schema>> {
        let wire = wire?;
        let schema = Schema {
            props: self.part(field, "props", wire.props, wire.props_example),
            data: self.part(field, "data", wire.data, wire.data_example),
            private_data: self.part(
                field,
                "private_data",
                wire.private_data,
                wire.private_data_example,
            ),
        };
        let size = to_proto::schema(&schema).encoded_len();
        if size > SCHEMA_BYTES {
            self.fault(field, format!("has {size} bytes, more than {SCHEMA_BYTES}"));
        }
        Some(Arc::new(schema))
    }

    /// One part, by its fields or by example.
    fn part(&mut self, field: &str, name: &str, fields: WireFields, example: WireValues) -> Fields {
        let by_fields = format!("{field}.{name}");
        let by_example = format!("{field}.{name}_example");
        if !fields.is_empty() && !example.is_empty() {
            let only = format!("only one of {name} and {name}_example may be given");
            self.fault(&by_example, only);
        }
        let mut part = Fields::default();
        if schema::has_room(&by_fields, fields.len(), self.limits, &mut self.faults) {
            let fields = self.fields(&by_fields, fields);
            part = schema::part(&by_fields, fields, self.limits, &mut self.faults);
        }
        if schema::has_room(&by_example, example.len(), self.limits, &mut self.faults)
            && !example.is_empty()
        {
            let fields = schema::by_example(self.values(&by_example, example));
            part = schema::part(&by_example, fields, self.limits, &mut self.faults);
        }
        part
    }

    fn fields(&mut self, within: &str, fields: WireFields) -> Vec<(Key, Field)> {
        let mut out = Vec::with_capacity(fields.len());
        for (key, wire) in fields {
            let at = path(within, &key);
            let key = self.key(&at, &key);
            let field = self.field(&at, wire);
            out.extend(key.map(|key| (key, field)));
        }
        out.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        out
    }

    fn field(&mut self, at: &str, wire: proto::Field) -> Field {
        use proto::FieldType as Wire;
        let of = match Wire::try_from(wire.r#type) {
            Ok(Wire::Any) => Some(Type::Any),
            Ok(Wire::Integer) => Some(Type::Integer),
            Ok(Wire::Number) => Some(Type::Number),
            Ok(Wire::Text) => Some(Type::Text),
            Ok(Wire::Flag) => Some(Type::Flag),
            Ok(Wire::Data) => Some(Type::Data),
            Ok(Wire::Numbers) => Some(Type::Numbers),
            Ok(Wire::Floats) => Some(Type::Floats),
            Ok(Wire::Integers) => Some(Type::Integers),
            Ok(Wire::List) => Some(Type::List),
            Ok(Wire::Map) => Some(Type::Map),
            Ok(Wire::Unspecified) => {
                self.fault(format!("{at}.type"), "must be set");
                None
            }
            Err(_) => {
                self.fault(format!("{at}.type"), format!("{} is no type", wire.r#type));
                None
            }
        };
        let default = wire
            .default_value
            .and_then(|value| self.value(&format!("{at}.default_value"), value, 1));
        let writer = self.role(&format!("{at}.writer"), wire.writer);
        let fields = self.fields(&format!("{at}.fields"), wire.fields).into();
        let items = wire.items.map(|items| Arc::new(self.field(&format!("{at}.items"), *items)));
        let (min, max) = (wire.min, wire.max);
        match of {
            Some(of) => Field { of, default, min, max, writer, fields, items },
            // What depends on the type is not judged without it.
            None => Field::new(Type::Any),
        }
    }
}
