//! What readers learn of a session as a whole, both ways.

use super::{
    Unreadable,
    names::{
        read_durability, read_pacing, read_presence, read_role, read_type, write_durability,
        write_pacing, write_presence, write_role, write_type,
    },
    read::{moment, role, user},
    value, wire,
};
use crate::session::{
    Info,
    ids::Key,
    judging::{Operation, Rule},
    schema::{Field, Fields, Schema},
    settings::{Keys, Settings},
};
use std::sync::Arc;

pub fn write(info: &Info) -> wire::Info {
    let Info { settings, owner, host, term, has_password, schema } = info;
    wire::Info {
        settings: Some(write_settings(settings)),
        owner: owner.as_deref().map(Into::into),
        host: host.as_deref().map(Into::into),
        term: *term,
        has_password: *has_password,
        schema: schema.as_deref().map(write_schema),
    }
}

pub fn read(info: wire::Info) -> Result<Info, Unreadable> {
    let wire::Info { settings, owner, host, term, has_password, schema } = info;
    Ok(Info {
        settings: read_settings(settings.ok_or(Unreadable::Malformed("no settings"))?)?.into(),
        owner: owner.map(user).transpose()?,
        host: host.map(user).transpose()?,
        term: moment(term)?,
        has_password,
        schema: schema.map(|schema| read_schema(schema).map(Arc::new)).transpose()?,
    })
}

fn write_settings(settings: &Settings) -> wire::Settings {
    let Settings {
        name,
        propnames,
        hostprops,
        tick,
        pacing,
        capacity,
        locked,
        unlisted,
        metadata,
        successors,
        host_grace,
        inherit_host_data,
        presence,
        rejoin_grace,
        empty_ttl,
        max_age,
        exclusive,
        data_role,
        reset_role,
        durability,
        rules,
    } = settings;
    let keys = |keys: &Keys| keys.iter().map(|key| key.to_string()).collect();
    wire::Settings {
        name: name.as_ref().map(|name| name.to_string()),
        propnames: keys(propnames),
        hostprops: keys(hostprops),
        tick: *tick,
        pacing: write_pacing(*pacing),
        capacity: *capacity as u64,
        locked: *locked,
        unlisted: *unlisted,
        metadata: value::write_all(metadata),
        successors: successors.iter().map(|user| user.to_string()).collect(),
        host_grace: *host_grace,
        inherit_host_data: *inherit_host_data,
        presence: presence.map_or(0, write_presence),
        rejoin_grace: *rejoin_grace,
        empty_ttl: *empty_ttl,
        max_age: *max_age,
        exclusive: *exclusive,
        data_role: write_role(*data_role),
        reset_role: write_role(*reset_role),
        durability: write_durability(*durability),
        rules: rules.iter().map(write_rule).collect(),
    }
}

fn read_settings(settings: wire::Settings) -> Result<Settings, Unreadable> {
    let wire::Settings {
        name,
        propnames,
        hostprops,
        tick,
        pacing,
        capacity,
        locked,
        unlisted,
        metadata,
        successors,
        host_grace,
        inherit_host_data,
        presence,
        rejoin_grace,
        empty_ttl,
        max_age,
        exclusive,
        data_role,
        reset_role,
        durability,
        rules,
    } = settings;
    let keys = |keys: Vec<String>| Keys::new(keys.into_iter().map(Key::from).collect());
    Ok(Settings {
        name: name.map(Key::from),
        propnames: keys(propnames),
        hostprops: keys(hostprops),
        tick: moment(tick)?,
        pacing: read_pacing(pacing)?.ok_or(Unreadable::Malformed("no pacing"))?,
        capacity: usize::try_from(capacity).map_err(|_| Unreadable::Malformed("capacity"))?,
        locked,
        unlisted,
        metadata: value::read_all::<Vec<_>>(metadata)?.into(),
        successors: successors.into_iter().map(user).collect::<Result<_, _>>()?,
        host_grace: moment(host_grace)?,
        inherit_host_data,
        presence: read_presence(presence)?,
        rejoin_grace: moment(rejoin_grace)?,
        empty_ttl: moment(empty_ttl)?,
        max_age: moment(max_age)?,
        exclusive,
        data_role: role(data_role)?,
        reset_role: role(reset_role)?,
        durability: read_durability(durability)?.ok_or(Unreadable::Malformed("no durability"))?,
        rules: rules.into_iter().map(read_rule).collect::<Result<_, _>>()?,
    })
}

fn write_rule(rule: &Rule) -> wire::Rule {
    let Rule { name, on, expression, message } = rule;
    let on = on.iter().map(|operation| match operation {
        Operation::Open => wire::Operation::Open,
        Operation::Join => wire::Operation::Join,
        Operation::Write => wire::Operation::Write,
        Operation::Subscribe => wire::Operation::Subscribe,
    });
    wire::Rule {
        name: name.to_string(),
        on: on.map(Into::into).collect(),
        expression: expression.to_string(),
        message: message.to_string(),
    }
}

fn read_rule(rule: wire::Rule) -> Result<Rule, Unreadable> {
    let wire::Rule { name, on, expression, message } = rule;
    let operation = |on: i32| match wire::Operation::try_from(on) {
        Ok(wire::Operation::Open) => Ok(Operation::Open),
        Ok(wire::Operation::Join) => Ok(Operation::Join),
        Ok(wire::Operation::Write) => Ok(Operation::Write),
        Ok(wire::Operation::Subscribe) => Ok(Operation::Subscribe),
        Ok(wire::Operation::Unspecified) | Err(_) => {
            Err(Unreadable::Malformed("a rule on nothing that is known"))
        }
    };
    Ok(Rule {
        name: name.into(),
        on: on.into_iter().map(operation).collect::<Result<_, _>>()?,
        expression: expression.into(),
        message: message.into(),
    })
}

fn write_schema(schema: &Schema) -> wire::Schema {
    let Schema { props, data, private_data } = schema;
    wire::Schema {
        props: write_fields(props),
        data: write_fields(data),
        private_data: write_fields(private_data),
    }
}

fn read_schema(schema: wire::Schema) -> Result<Schema, Unreadable> {
    let wire::Schema { props, data, private_data } = schema;
    Ok(Schema {
        props: read_fields(props)?,
        data: read_fields(data)?,
        private_data: read_fields(private_data)?,
    })
}

fn write_fields(fields: &Fields) -> Vec<wire::Field> {
    fields.iter().map(|(key, field)| write_field(key, field)).collect()
}

fn read_fields(fields: Vec<wire::Field>) -> Result<Fields, Unreadable> {
    // They are looked up by halving.
    if !fields.is_sorted_by(|a, b| a.key < b.key) {
        return Err(Unreadable::Malformed("fields out of order"));
    }
    fields.into_iter().map(read_field).collect()
}

fn write_field(key: &str, field: &Field) -> wire::Field {
    let Field { of, default, min, max, writer, fields, items } = field;
    wire::Field {
        key: key.into(),
        r#type: write_type(*of),
        default: default.as_ref().map(value::write),
        min: *min,
        max: *max,
        writer: writer.map_or(0, write_role),
        fields: write_fields(fields),
        items: items.as_ref().map(|items| Box::new(write_field("", items))),
    }
}

fn read_field(field: wire::Field) -> Result<(Key, Field), Unreadable> {
    let wire::Field { key, r#type, default, min, max, writer, fields, items } = field;
    let items = items.map(|items| read_field(*items).map(|(_, items)| Arc::new(items)));
    let field = Field {
        of: read_type(r#type)?.ok_or(Unreadable::Malformed("a field of no type"))?,
        default: default.map(value::read).transpose()?,
        min,
        max,
        writer: read_role(writer)?,
        fields: read_fields(fields)?,
        items: items.transpose()?,
    };
    Ok((key.into(), field))
}
