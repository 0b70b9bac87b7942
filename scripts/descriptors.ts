// Describes proto files as protoc would (google/protobuf/descriptor.proto), for clients that ask by reflection.
//
// protobufjs has a conversion of its own, whose type names are relative, and which leaves out what a file imports:
// Go, C++ and whoever else takes descriptors at their word refuses those. Here is what our files use; anything else
// is refused. test/server/reflection.test.ts compares with protoc.
import protobuf from 'protobufjs';
import type {
  IDescriptorProto,
  IEnumDescriptorProto,
  IFieldDescriptorProto,
  IServiceDescriptorProto,
} from 'protobufjs/ext/descriptor.js';
import descriptors from 'protobufjs/ext/descriptor.js';
import type { DescribedFile } from '../src/server/grpc/reflection.ts';

const { Enum, MapField, Root, Service, Type, util } = protobuf;

/** `FieldDescriptorProto.Type` */
const SCALARS: Record<string, number> = {
  double: 1,
  float: 2,
  int64: 3,
  uint64: 4,
  int32: 5,
  fixed64: 6,
  fixed32: 7,
  bool: 8,
  string: 9,
  bytes: 12,
  uint32: 13,
  sfixed32: 15,
  sfixed64: 16,
  sint32: 17,
  sint64: 18,
};
const MESSAGE = 11;
const ENUM = 14;
const OPTIONAL = 1;
const REPEATED = 3;

/** Describes files, given their texts by their names. */
export function describeFiles(texts: Readonly<Record<string, string>>): DescribedFile[] {
  const root = new Root();
  const files = Object.entries(texts).map(([name, text]) => {
    // What is parsed is marked with it.
    Object.assign(protobuf.parse, { filename: name });
    const parsed = protobuf.parse(text, root, { keepCase: true });
    return { name, package: parsed.package!, dependency: parsed.imports ?? [], syntax: 'proto3' };
  });
  root.resolveAll();
  return files.map((file) => {
    const content = root.define(file.package).nestedArray.filter(({ filename }) => filename === file.name);
    refuse(content.find((one) => !(one instanceof Type || one instanceof Enum || one instanceof Service)));
    const descriptor = {
      ...file,
      messageType: content.filter((one) => one instanceof Type).map(ofMessage),
      enumType: content.filter((one) => one instanceof Enum).map(ofEnum),
      service: content.filter((one) => one instanceof Service).map(ofService),
    };
    return {
      name: file.name,
      dependencies: file.dependency,
      services: descriptor.service.map(({ name }) => `${file.package}.${name}`),
      symbols: symbolsIn(file.package, descriptor),
      descriptor: Buffer.from(descriptors.FileDescriptorProto.encode(descriptor).finish()).toString('base64'),
    };
  });
}

function ofMessage(type: protobuf.Type): IDescriptorProto {
  if (type.options || type.extensions || type.reserved) refuse(type);
  refuse(type.nestedArray.find((one) => !(one instanceof Type || one instanceof Enum)));
  return {
    name: type.name,
    field: type.fieldsArray.map(ofField),
    oneofDecl: type.oneofsArray.map(({ name }) => ({ name })),
    nestedType: [
      ...type.fieldsArray.filter((field) => field instanceof MapField).map(ofEntry),
      ...type.nestedArray.filter((one) => one instanceof Type).map(ofMessage),
    ],
    enumType: type.nestedArray.filter((one) => one instanceof Enum).map(ofEnum),
  };
}

function ofField(field: protobuf.Field): IFieldDescriptorProto {
  if (Object.keys(field.options ?? {}).length > 0) refuse(field);
  const repeated = field.repeated || field instanceof MapField;
  return {
    name: field.name,
    number: field.id,
    label: repeated ? REPEATED : OPTIONAL,
    ...(field instanceof MapField
      ? { type: MESSAGE, typeName: `${field.parent!.fullName}.${entryName(field)}` }
      : typeOf(field)),
    ...(field.partOf && { oneofIndex: (field.parent as protobuf.Type).oneofsArray.indexOf(field.partOf) }),
    jsonName: util.jsonName(field.name),
  };
}

function typeOf({ type, resolvedType }: protobuf.FieldBase): IFieldDescriptorProto {
  if (!resolvedType) return { type: SCALARS[type]! };
  return { type: resolvedType instanceof Enum ? ENUM : MESSAGE, typeName: resolvedType.fullName };
}

/** A map is a repeated message of a type of its own, nested beside it. */
function ofEntry(field: protobuf.MapField): IDescriptorProto {
  const member = (name: string, number: number, type: IFieldDescriptorProto) => ({
    ...{ name, number, label: OPTIONAL, jsonName: name },
    ...type,
  });
  return {
    name: entryName(field),
    field: [member('key', 1, { type: SCALARS[field.keyType]! }), member('value', 2, typeOf(field))],
    options: { mapEntry: true },
  };
}

function entryName({ name }: protobuf.FieldBase): string {
  return `${util.ucFirst(util.camelCase(name))}Entry`;
}

function ofEnum(type: protobuf.Enum): IEnumDescriptorProto {
  if (type.options || type.reserved || type.valuesOptions) refuse(type);
  return {
    name: type.name,
    value: Object.entries(type.values).map(([name, number]) => ({ name, number })),
  };
}

function ofService({ name, methodsArray }: protobuf.Service): IServiceDescriptorProto {
  return {
    name,
    method: methodsArray.map((method) => ({
      name: method.name,
      inputType: method.resolvedRequestType!.fullName,
      outputType: method.resolvedResponseType!.fullName,
      ...(method.requestStream && { clientStreaming: true }),
      ...(method.responseStream && { serverStreaming: true }),
    })),
  };
}

/** The complete names of all that a descriptor defines. A value of an enum stands beside the enum. */
function symbolsIn(scope: string, descriptor: Defining): string[] {
  const { messageType, nestedType, enumType = [], service, field, oneofDecl, method } = descriptor;
  const members = [messageType, nestedType, enumType, service, field, oneofDecl, method];
  return [
    ...members
      .flatMap((list) => list ?? [])
      .flatMap((one) => {
        const name = `${scope}.${one.name}`;
        return [name, ...symbolsIn(name, one)];
      }),
    ...enumType.flatMap(({ value }) => value?.map(({ name }) => `${scope}.${name}`) ?? []),
  ];
}

/** A descriptor of any kind, and what it defines. */
interface Defining {
  readonly name?: string;
  readonly messageType?: IDescriptorProto[];
  readonly nestedType?: IDescriptorProto[];
  readonly enumType?: IEnumDescriptorProto[];
  readonly service?: IServiceDescriptorProto[];
  readonly field?: IFieldDescriptorProto[];
  readonly oneofDecl?: { name?: string }[];
  readonly method?: { name?: string }[];
}

function refuse(one: protobuf.ReflectionObject | undefined): void {
  if (one)
    throw new Error(`${one.filename}: ${one.fullName} has something that descriptors.ts does not describe`);
}
